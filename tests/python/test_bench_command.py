"""The command as a user meets it: the table, the record, the plot, exit status and errors."""

import importlib.util
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ringtree_bench import rivals
from ringtree_bench.command import bench
from ringtree_bench.rivals import Ringtree, Task
from ringtree_bench.rivals.mpi import library_version
from ringtree_bench.world import World

RINGTREE = [sys.executable, "-m", "ringtree"]
QUICK = ["--iterations", "3"]


class Liar(Ringtree):
    """A peer whose every result has one wrong element."""

    name = "liar"

    def __init__(self, world: World) -> None:
        super().__init__(world.comm)

    @staticmethod
    def missing(world: World) -> str:
        return ""

    def prepare(self, task: Task) -> Callable[[], object]:
        def lie() -> None:
            task.x[0] += 1

        return lie


def run_alone(*arguments: str) -> Result:
    return CliRunner().invoke(bench, [*arguments, *QUICK])


def run(command: list[str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def test_alone_it_says_how_to_start_several_ranks() -> None:
    result = run_alone()
    assert result.exit_code == 2
    assert "mpirun -n 2 ringtree bench" in result.output
    assert "ringtree bench -n 2" in result.output


def test_a_world_of_one_is_measured_when_asked_for() -> None:
    result = run_alone("-n", "1", "--sizes", "8:32", "--peers", "none")
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines() if line[0] != "#"] == ["8", "16", "32"]
    assert result.output.endswith("# 0 wrong elements\n")


def test_wrong_elements_are_counted_and_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rivals.PEERS, "liar", Liar)
    result = run_alone("-n", "1", "--sizes", "64", "--peers", "liar")
    assert result.exit_code == 1
    assert "# liar has 2 wrong elements in all_reduce sum of float32, 64 bytes" in result.output
    assert result.output.endswith("# 2 wrong elements: do not trust these results\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sizes", "8:4"], "'8:4' starts above its end"),
        (["--sizes", "1"], "not one holds an element of float32 for each of 1 ranks"),
        (["--sizes", "1000000G"], "of memory, of which"),
        (["--collective", "all_reduc"], "there is no collective 'all_reduc'; there are all_reduce, reduce"),
        (["--algorithm", "rong"], "there is no algorithm of all_reduce 'rong'; there are auto, "),
        (["--peers", "nccl,glo"], "there is no peer 'nccl'; there are gloo, mpi"),
        (["--op", "bxor"], "bxor of float32 does not exist: it needs integers or bool"),
        (["--json", "/proc/none/run.json"], "/proc/none/run.json cannot be written"),
        (["--plot", "x.txt"], "the name must end in .png, .svg, .pdf"),
        (["--mix", "gradients", "--collective", "all"], "--mix measures gradients"),
    ],
)
def test_options_that_make_no_sense_are_explained_before_anything_is_measured(
    arguments: list[str], complaint: str
) -> None:
    result = run_alone("-n", "1", *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert complaint in result.output


def test_a_missing_peer_is_one_line_and_no_crash() -> None:
    result = run_alone("-n", "1", "--sizes", "8", "--peers", "mpi")
    assert result.exit_code == 0
    assert "# mpi is not measured: needs an MPI launcher: mpirun -n 1 ringtree bench" in result.output


def test_the_record_holds_machine_versions_and_every_sample(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    result = run_alone("-n", "1", "--sizes", "8,64", "--peers", "none", "--seed", "5", "--json", str(path))
    assert result.exit_code == 0, result.output
    record = json.loads(path.read_text())
    assert {"cpu", "cores", "usable_cores", "memory_bytes", "system"} == set(record["machine"])
    assert {"ringtree", "python", "numpy"} <= set(record["versions"])
    assert (record["seed"], record["world"], len(record["rows"])) == (5, 1, 2)
    assert {
        "date",
        "command",
        "commit",
        "transport",
        "memory",
        "notes",
        "hosts",
        "peers",
        "settings",
        "tuned",
    } <= set(record)
    times = record["rows"][0]["ringtree"]
    assert len(times["samples"]) == 3
    assert times["min"] <= times["p10"] <= times["median"] <= times["p90"]


def test_json_lines_gather_runs(tmp_path: Path) -> None:
    path = tmp_path / "machine.jsonl"
    for _ in range(2):
        run_alone("-n", "1", "--sizes", "8", "--peers", "none", "--json", str(path))
    assert [json.loads(line)["world"] for line in path.read_text().splitlines()] == [1, 1]


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_plot_is_a_valid_picture(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    path = tmp_path / f"new/run{suffix}"
    sizes = ["-n", "1", "--sizes", "8,64", "--collective", "all_reduce,all_gather", "--algorithm", "all"]
    result = run_alone(*sizes, "--peers", "none", "--plot", str(path))
    assert result.exit_code == 0, result.output
    if suffix == ".png":
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
    else:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Open MPI v5.0.8, package: Open MPI user@host Distribution, ident: 5.0.8", "Open MPI 5.0.8"),
        ("MPICH Version:      4.2.1\nMPICH Release date: ...", "MPICH 4.2.1"),
        ("Intel(R) MPI Library 2021.10 for Linux* OS", "Intel(R) MPI Library 2021.10"),
        ("Some other MPI\n", "Some other MPI"),
    ],
)
def test_an_mpi_is_called_by_its_name_and_version(text: str, version: str) -> None:
    assert library_version(text) == version


def test_it_starts_its_own_ranks(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    options = ["-n", "2", "--sizes", "8,64K", "--peers", "none", "--collective", "all", "--json", str(path)]
    done = run([*RINGTREE, "bench", *options, *QUICK])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("# 0 wrong elements") == 1  # only one rank speaks
    assert json.loads(path.read_text())["world"] == 2


def test_when_its_own_ranks_fail_so_does_it() -> None:
    done = run([*RINGTREE, "bench", "-n", "2", "--sizes", "nothing"])
    assert done.returncode == 2
    assert done.stderr.count("is not a size") == 1


def missing_for_mpirun() -> str:
    lacking = [package for package in ("torch", "mpi4py") if importlib.util.find_spec(package) is None]
    if shutil.which("mpirun") is None:
        lacking.append("mpirun")
    return ", ".join(lacking)


@pytest.mark.skipif(bool(missing_for_mpirun()), reason=f"needs {missing_for_mpirun()}")
def test_under_mpirun_all_peers_are_measured_and_right(tmp_path: Path) -> None:
    json_path, plot_path = tmp_path / "run.json", tmp_path / "run.png"
    launcher = ["mpirun", "--allow-run-as-root", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none", "-n", "2"]
    options = [
        "--sizes",
        "8:64K:16",
        "--peers",
        "gloo,mpi,c10d,unrecorded",
        "--json",
        str(json_path),
        "--plot",
        str(plot_path),
    ]
    done = run([*launcher, *RINGTREE, "bench", *options, *QUICK])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout  # Open MPI's pseudo-terminal does not fool it into colours
    rows = json.loads(json_path.read_text())["rows"]
    assert [row["size"] for row in rows] == [8, 128, 2048, 32768]
    for row in rows:
        assert row["ringtree"]["wrong"] == 0
        assert set(row["peers"]) == {"gloo", "mpi", "c10d", "unrecorded"}
        assert all(peer["median"] > 0 and peer["wrong"] == 0 for peer in row["peers"].values())
        assert all(ratio > 0 for ratio in row["ratios"].values())
    assert plot_path.read_bytes().startswith(b"\x89PNG")
