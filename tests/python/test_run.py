"""`ringtree run`: output, ends, signals, and that no rank outlives the launcher."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCHER = [sys.executable, "-m", "ringtree", "run"]


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*LAUNCHER, *map(str, arguments)],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(*arguments: object, **variables: str) -> tuple[int, list[str], str]:
    """Exit code, sorted lines of output, errors."""
    with start(*arguments, **variables) as job:
        out, errors = job.communicate(timeout=60)
        return job.returncode, sorted(out.splitlines()), errors


@pytest.fixture
def script(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "program.py"
        path.write_text(f"import os, signal, sys, time\nrank = int(os.environ['RANK'])\n{text}")
        return path

    return write


def test_ranks_know_who_they_are_and_their_lines_are_told_apart(script) -> None:
    path = script(
        "print(os.environ['LOCAL_RANK'], os.environ['WORLD_SIZE'], *sys.argv[1:])\nsys.stdout.write('end')"
    )
    code, lines, errors = run("-n", 2, path, "--option", "-n")
    assert (code, errors) == (0, "")
    assert lines == ["[0] 0 2 --option -n", "[0] end", "[1] 1 2 --option -n", "[1] end"]


def test_without_prefix_lines_are_as_they_are(script) -> None:
    assert run("-n", 2, "--no-prefix", script("print('line')")) == (0, ["line", "line"], "")


def test_modules_and_programs_run_too(tmp_path: Path) -> None:
    assert run("-n", 1, "-m", "platform", "--help")[0] == 0
    code, lines, _ = run("-n", 3, "--", "sh", "-c", "echo $RANK")
    assert (code, lines) == (0, ["[0] 0", "[1] 1", "[2] 2"])


def await_file(path: Path) -> str:
    return f"while not os.path.exists({str(path)!r}): time.sleep(0.01)\n"


def test_a_rank_that_dies_is_named_and_the_others_are_spared(script, tmp_path: Path) -> None:
    go = tmp_path / "go"
    path = script(f"if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\n{await_file(go)}print('done')")
    with start("-n", 3, path) as job:
        assert job.stderr is not None
        assert job.stderr.readline().startswith(
            "ringtree run: rank 1 was killed by SIGKILL (out of memory?) after "
        )
        assert job.stderr.readline() == "ringtree run: ranks still running: 0, 2\n"
        go.touch()
        out, errors = job.communicate(timeout=60)
    assert (sorted(out.splitlines()), errors) == (["[0] done", "[2] done"], "")
    assert job.returncode == 128 + signal.SIGKILL


def test_the_exit_code_is_that_of_the_first_that_failed(script, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with start("-n", 3, script(f"if rank == 1: sys.exit(3)\n{await_file(go)}sys.exit(2 * rank)")) as job:
        assert job.stderr is not None
        assert "rank 1 ended with exit code 3 after " in job.stderr.readline()
        go.touch()
        _, errors = job.communicate(timeout=60)
    assert job.returncode == 3
    assert "rank 2 ended with exit code 4 after " in errors
    assert "rank 0" not in errors


def test_on_request_the_others_are_ended(script) -> None:
    code, _, errors = run(
        "-n", 3, "--on-failure", "kill", script("sys.exit(7) if rank == 2 else time.sleep(600)")
    )
    assert code == 7
    assert errors.count("was killed by SIGTERM") == 2


def test_signals_are_passed_on(script) -> None:
    path = script(
        "signal.signal(signal.SIGUSR1, lambda *_: (print('got it'), sys.exit(0)))\n"
        "print('ready')\nwhile True: time.sleep(0.01)"
    )
    with start("-n", 2, path) as job:
        assert job.stdout is not None
        assert sorted(job.stdout.readline() for _ in range(2)) == ["[0] ready\n", "[1] ready\n"]
        job.send_signal(signal.SIGUSR1)
        out, _ = job.communicate(timeout=30)
    assert sorted(out.splitlines()) == ["[0] got it", "[1] got it"]
    assert job.returncode == 0


def test_a_second_ctrl_c_kills_who_ignores_the_first(script) -> None:
    path = script(
        "signal.signal(signal.SIGINT, lambda *_: print('no'))\nprint('ready')\nwhile True: time.sleep(0.01)"
    )
    with start("-n", 2, path) as job:
        assert job.stdout is not None
        for expected in ("ready", "no"):
            assert sorted(job.stdout.readline() for _ in range(2)) == [
                f"[0] {expected}\n",
                f"[1] {expected}\n",
            ]
            job.send_signal(signal.SIGINT)
        _, errors = job.communicate(timeout=30)
    assert errors.count("was killed by SIGKILL") == 2
    assert job.returncode == 128 + signal.SIGKILL


def test_no_rank_outlives_a_killed_launcher(script) -> None:
    with start("-n", 2, script("print(os.getpid())\ntime.sleep(600)")) as job:
        assert job.stdout is not None
        pids = [int(job.stdout.readline().split()[1]) for _ in range(2)]
        job.kill()
        job.wait(30)
        deadline = time.monotonic() + 30
        while alive := [pid for pid in pids if is_running(pid)]:
            assert time.monotonic() < deadline, f"still running: {alive}"
            time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_output_is_kept_by_rank(script, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    assert run("-n", 2, "--log-dir", logs, script("print('from', rank)"))[0] == 0
    assert [(logs / f"rank-{rank}.log").read_text() for rank in range(2)] == ["from 0\n", "from 1\n"]


def test_what_cannot_be_run_is_said_in_a_line() -> None:
    assert "Error: there is no script nowhere.py" in run("-n", 1, "nowhere.py")[2]
    assert "Error: there is no program nowhere; a Python module needs -m" in run("-n", 1, "nowhere")[2]


GOES_ON = """
import numpy as np
import ringtree as rt
comm = rt.init()
x = np.ones(1)
try:
    while True:
        comm.all_reduce(x, op="max")
except rt.RankFailure:
    comm = comm.shrink()
comm.all_reduce(x)
print("went on with", int(x[0]))
"""


def test_survivors_of_a_fault_go_on_under_it(script) -> None:
    code, lines, errors = run(
        "-n", 3, script(GOES_ON), RINGTREE_FAULT="rank=1,op=all_reduce,seq=100,kind=kill"
    )
    assert lines == ["[0] went on with 2", "[2] went on with 2"], errors
    assert "rank 1 was killed by SIGKILL" in errors
    assert code == 128 + signal.SIGKILL
