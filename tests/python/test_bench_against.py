"""Rivals with an mpirun of their own, played by a false MPI that really reduces and misbehaves when told to."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from click.testing import CliRunner
from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.command import bench
from ringtree_bench.measure import Contender, Stage
from ringtree_bench.rivals import Environment, Group, UnsupportedError
from ringtree_bench.rivals.environment import LAUNCHERS, parse_against
from ringtree_bench.rounds import Budget, Measurement
from ringtree_bench.world import World

MPIRUN = """#!{python}
import os, subprocess, sys, tempfile
if sys.argv[1:] == ["--version"]:
    sys.exit(print("False MPI 1.2"))
count, program = int(sys.argv[2]), sys.argv[3:]
with tempfile.TemporaryDirectory() as folder:
    launched = {{"WORLD_SIZE": str(count), "RINGTREE_RENDEZVOUS": "file://" + folder}}
    ranks = [subprocess.Popen(program, env=os.environ | launched | {{"RANK": str(rank)}}) for rank in range(count)]
    sys.exit(max(rank.wait() for rank in ranks))
"""

PYTHON = """#!/bin/sh
shift  # -I, which would hide the false mpi4py
PYTHONPATH={path} exec {python} "$@"
"""

MPI = """
import os, time
import numpy as np
import ringtree as rt

FLOAT, BYTE, SUM, MAX, IN_PLACE = "float32", "uint8", "sum", "max", None
world = rt.init()
misbehaviour, _, when = os.environ.get("FALSE_MPI", "").partition(":")
calls = 0

class Exception(RuntimeError):
    pass

class Comm:
    def Dup(self): return self
    def Get_rank(self): return world.rank
    def Get_size(self): return 99 if misbehaviour == "singleton" else world.world_size
    def Abort(self, status): os._exit(status)

    def Allreduce(self, _, described, op):
        global calls
        if isinstance(described, np.ndarray):  # the workers' own meeting
            return world.all_reduce(described, op)
        memory, dtype = described
        world.all_reduce(memory.view(dtype), op)
        calls += 1
        if misbehaviour and calls == int(when) and world.rank == 0:
            if misbehaviour == "lie":
                memory[0] ^= 64
            elif misbehaviour == "raise":
                raise Exception("no more of this")
            elif misbehaviour == "die":
                print("a false step", flush=True)
                os._exit(7)
            elif misbehaviour == "hang":
                time.sleep(1000)

COMM_WORLD = Comm()
def Get_library_version(): return "MPICH Version:      1.2\\0"
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A folder that looks like a virtual environment with an MPI; FALSE_MPI says what goes wrong with it."""
    folder = tmp_path / "rivals" / "false"
    (folder / "bin").mkdir(parents=True)
    package = folder / "site" / "mpi4py"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "MPI.py").write_text(MPI)
    path = ":".join([str(folder / "site"), *filter(None, sys.path)])
    for name, text in (("mpirun", MPIRUN), ("python", PYTHON)):
        program = folder / "bin" / name
        program.write_text(text.format(python=sys.executable, path=path))
        program.chmod(0o755)
    return folder


def run_two(against: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ringtree", "bench", "-n", "2", "--sizes", "8,4K", "--iterations", "3"]
    return subprocess.run(
        [*command, "--peers", "none", "--against", against, *options],
        env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def still_running(folder: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"VIRTUAL_ENV={folder}".encode() in process.read_bytes().split(b"\0"):
                found.append(process.parent.name)
        except OSError:
            continue
    return found


def test_it_is_measured_and_checked_beside_ringtree_and_leaves_nothing_behind(
    environment: Path, tmp_path: Path
) -> None:
    done = run_two(f"other={environment}", "--json", str(tmp_path / "run.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# beside other (MPICH 1.2)" in done.stdout
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["peers"] == {"other": "MPICH 1.2"}
    for row in record["rows"]:
        assert row["peers"]["other"]["wrong"] == 0
        assert len(row["peers"]["other"]["samples"]) == 3
        assert row["ratios"]["other"] > 0
    assert still_running(environment) == []


def test_a_bare_name_is_looked_up_in_the_folder_of_rivals(environment: Path) -> None:
    done = run_two("false", RINGTREE_RIVALS=str(environment.parent))
    assert "# beside false (MPICH 1.2)" in done.stdout


def test_a_wrong_element_of_another_process_is_found(environment: Path) -> None:
    done = run_two(f"liar={environment}", "--sizes", "4K", FALSE_MPI="lie:2")
    assert done.returncode == 1
    assert "# liar has 1 wrong elements in all_reduce sum of float32, 4096 bytes" in done.stdout


@pytest.mark.parametrize(
    ("misbehaviour", "reason"),
    [
        ("die:6", "its processes ended"),
        ("raise:6", "no more of this"),
        ("hang:6", "it gave no answer for 3 s"),
        ("die:1", "its processes ended"),
    ],
)
def test_a_rival_that_fails_midway_is_a_note_and_the_others_are_measured(
    environment: Path, tmp_path: Path, misbehaviour: str, reason: str
) -> None:
    path = tmp_path / "run.json"
    done = run_two(f"weak={environment}", "--json", str(path), FALSE_MPI=misbehaviour, RINGTREE_TIMEOUT="3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"# weak does not do all_reduce sum of float32: {reason}" in done.stdout
    rows = json.loads(path.read_text())["rows"]
    assert [row["ringtree"]["wrong"] for row in rows] == [0, 0]
    assert rows[1]["peers"]["weak"] is None
    assert still_running(environment) == []


def test_a_rival_that_cannot_be_started_is_a_note(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    mute = tmp_path / "mute"
    (mute / "bin").mkdir(parents=True)
    for name in ("mpirun", "python"):
        (mute / "bin" / name).write_text("#!/bin/sh\necho 'out of luck'\necho ------\nexit 3\n")
        (mute / "bin" / name).chmod(0o755)
    done = run_two(f"a={tmp_path}/none,b={tmp_path}/empty,c={mute},d", RINGTREE_RIVALS="")
    assert done.returncode == 0, done.stderr
    assert f"# a is not measured: there is no folder {tmp_path}/none" in done.stdout
    assert f"# b is not measured: {tmp_path}/empty is without a virtual environment" in done.stdout
    assert "# c is not measured: its mpirun ended: out of luck" in done.stdout
    assert (
        "# d is not measured: where is its environment? Write d=VENV, or set RINGTREE_RIVALS" in done.stdout
    )
    assert done.stdout.endswith("# 0 wrong elements\n")


def test_an_mpi4py_of_another_mpi_than_its_mpirun_is_a_note(environment: Path) -> None:
    done = run_two(f"x={environment}", FALSE_MPI="singleton")
    assert "# x is not measured: its mpi4py is linked to another MPI than that of its mpirun" in done.stdout


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("=x", "write NAME=VENV"), ("a=", "write NAME=VENV"), ("a=x,a=y", "there are two called a")],
)
def test_what_cannot_be_read_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_against(text, {})


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(bench, ["-n", "1", "--peers", "gloo", "--against", f"gloo={tmp_path}"])
    assert done.exit_code == 2
    assert "there is a peer of that name" in done.output


def test_its_launcher_does_not_see_the_launcher_around_the_suite() -> None:
    around = {"PATH": "/bin", "HOME": "/home", "OMPI_COMM_WORLD_RANK": "1", "PMIX_RANK": "1", "PMI_RANK": "0"}
    around |= {"RANK": "1", "RINGTREE_RENDEZVOUS": "file:///x", "PYTHONPATH": "/ours", "I_MPI_FABRICS": "ofi"}
    around |= {"OMPI_MCA_btl": "tcp", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    kept = Environment("x", Path("/venv")).variables(around)
    assert kept == {
        "HOME": "/home",
        "I_MPI_FABRICS": "ofi",
        "LD_LIBRARY_PATH": "/venv/lib",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_MCA_btl": "tcp",
        "PATH": "/venv/bin:/bin",
        "VIRTUAL_ENV": "/venv",
    }


def test_every_launcher_is_told_what_it_needs() -> None:
    intel, open_mpi, _ = LAUNCHERS
    command = Environment("x", Path("/venv")).command(open_mpi, 4, "/meet")
    assert command[:5] == ["/venv/bin/mpirun", "--map-by", ":OVERSUBSCRIBE", "-n", "4"]
    assert command[-1] == "/meet"
    assert intel.settings == {"I_MPI_FABRICS": "shm"}


def test_a_case_of_several_calls_finds_each_in_its_place(environment: Path) -> None:
    case = Case(COLLECTIVES["all_reduce"], 2, "float32", "sum", (1000, 24, 3000), "buckets")

    def body(comm: rt.Communicator) -> Measurement:
        world = World(comm)
        group = Group(world, Environment("x", environment), [case])
        measured = Stage(world, Buffers([case]), 3).measure(case, [Contender(group)], Budget(rounds=3))
        group.close()
        return measured

    for result in rt.run_local(2, body):
        assert result.refused == {}
        assert (result.timings[0].wrong, len(result.timings[0].samples)) == (0, 3)
        assert np.isfinite(result.timings[0].samples).all()


def test_what_its_library_lacks_is_refused_on_every_rank(environment: Path) -> None:
    case = Case(COLLECTIVES["all_reduce"], 2, "float16", "sum", (8,))

    def body(comm: rt.Communicator) -> dict[int, str]:
        world = World(comm)
        group = Group(world, Environment("x", environment), [case])
        measured = Stage(world, Buffers([case]), 3).measure(case, [Contender(group)], Budget(rounds=3))
        with pytest.raises(UnsupportedError, match="MPI has no float16"):
            group.prepare_case(case, *Buffers([case]).of(case))
        group.close()
        return measured.refused

    assert rt.run_local(2, body) == [{0: "MPI has no float16"}] * 2


def missing_here() -> str:
    """What the running environment lacks to be a rival itself."""
    lacking = [] if importlib.util.find_spec("mpi4py") else ["mpi4py"]
    return ", ".join(lacking + ([] if (Path(sys.prefix) / "bin" / "mpirun").exists() else ["its own mpirun"]))


@pytest.mark.skipif(bool(missing_here()), reason=f"needs {missing_here()}")
def test_a_real_mpi_from_this_very_environment_is_right_in_every_collective() -> None:
    allow_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = run_two(f"own={sys.prefix}", "--collective", "all", **allow_root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# beside own (" in done.stdout
    assert "own does not do" not in done.stdout
    assert done.stdout.endswith("# 0 wrong elements\n")
