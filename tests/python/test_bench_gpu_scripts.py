"""The scripts for a machine with a GPU: what they run, what they say, and that what ends them loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from contract.emulated import ROOT, environment, needs_emulator
from stand_ins.ranks import WITHOUT_TORCH, Done, path_of

pytestmark = needs_emulator

SUITE = ROOT / "bench" / "gpu.sh"
SANITIZE = ROOT / "tests" / "gpu" / "sanitize.sh"
SMALL = {"WORLDS": "2", "SMALL": "8", "MIDDLE": "64", "SIZES": "64", "LARGE": "4K", "CHECKS": "64"}


def stub(folder: Path, name: str, body: str) -> str:
    """A program that PATH finds before all others."""
    program = folder / name
    program.write_text(f"#!/usr/bin/env bash\n{body}\n")
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def run_script(*command: str, **more: str) -> Done:
    return subprocess.run(
        command,
        env=environment(PYTHON=sys.executable, PYTHONPATH=path_of(WITHOUT_TORCH), **more),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_the_suite_ends_with_the_goals_and_keeps_what_it_says(tmp_path: Path) -> None:
    steps = "check large small processes packets nccl"
    result = run_script(str(SUITE), OUT=str(tmp_path), STEPS=steps, **SMALL)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "# failed" not in result.stdout
    assert result.stdout.count("# checked, every algorithm of every collective: ") == 3
    assert "# processes take turns on the GPU: there is no nvidia-cuda-mps-control" in result.stdout
    assert "# left out: nccl is not measured: needs PyTorch or CuPy, and a GPU\n" in result.stdout
    assert "8 B all_reduce in a graph, 2 ranks in one launch" in result.stdout
    assert "not measured" in result.stdout
    (kept,) = (each for each in tmp_path.glob("gpu-*.log") if each.name != "gpu-check.log")
    assert kept.read_text() == result.stdout
    (path,) = tmp_path.glob("*.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(record["complete"] for record in records)
    settings = [record["settings"].get("RINGTREE_GPU_PROTOCOL") for record in records]
    assert settings == [None] * 5 + ["packets"]


def test_a_step_that_is_unknown_and_a_run_that_fails_are_named(tmp_path: Path) -> None:
    result = run_script(str(SUITE), OUT=str(tmp_path), STEPS="large larger", **SMALL)
    assert result.returncode == 2
    assert "there is no step larger" in result.stdout
    result = run_script(str(SUITE), OUT=str(tmp_path), STEPS="large", **{**SMALL, "LARGE": "none"})
    assert result.returncode == 0
    assert (
        "# failed, with status 2: ringtree gpu --as threads -n 2 --algorithm all --sizes none"
        in result.stdout
    )
    result = run_script(str(SUITE), OUT=str(tmp_path), STEPS="large check", MINUTES="0", **SMALL)
    assert result.returncode == 0
    assert result.stdout.count("# left out, for want of time: ") == 4


def test_who_ends_the_suite_gets_what_it_has_measured(tmp_path: Path) -> None:
    """A run that takes longer than anybody waits; its first row is kept, and nothing of it goes on."""
    sizes = {**SMALL, "LARGE": "64,16M"}
    suite = subprocess.Popen(
        [str(SUITE)],
        env=environment(
            PYTHON=sys.executable,
            PYTHONPATH=path_of(WITHOUT_TORCH),
            OUT=str(tmp_path),
            STEPS="large",
            **sizes,
        ),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert suite.stdout is not None
        path = wait_for_record(tmp_path, suite)
        suite.send_signal(signal.SIGTERM)
        said = suite.stdout.read()
        status = suite.wait(60)
    finally:
        suite.kill()
        suite.wait()
    assert status == 128 + signal.SIGTERM
    assert "# goals on ringtree emulated device" in said
    assert "# 1 of 1 runs ended early: what they had measured counts" in said
    (record,) = map(json.loads, path.read_text().splitlines())
    assert {row["size"] for row in record["rows"]} == {64}
    assert said.endswith(
        "threads, times the floor\n"
    )  # nobody else held the pipe, or it would not have ended


def wait_for_record(folder: Path, suite: "subprocess.Popen[str]") -> Path:
    """The record, once it is there."""
    while not (found := list(folder.glob("*.jsonl"))):
        assert suite.poll() is None
        time.sleep(0.02)
    return found[0]


MPS = f"""
set -euo pipefail
cd {ROOT}
. bench/mps.sh
start_mps
echo "HAS_MPS=$HAS_MPS pipe=${{CUDA_MPS_PIPE_DIRECTORY:+set}}"
stop_mps
echo "HAS_MPS=$HAS_MPS pipe=${{CUDA_MPS_PIPE_DIRECTORY:+set}}"
"""
STARTS, KNOWS = 'if [ "${1:-}" = -d ]; then echo started; exit ', "; fi; read -r asked; echo "


@pytest.mark.parametrize(
    ("control", "problem"),
    [
        ("1" + KNOWS, "nvidia-cuda-mps-control -d ends with status 1"),
        ("0" + KNOWS, "MPS's daemon knows of no server"),
        ("0" + KNOWS + "4711", ""),
    ],
)
def test_mps_is_believed_in_only_where_a_server_is_seen(control: str, problem: str, tmp_path: Path) -> None:
    path = stub(tmp_path, "nvidia-cuda-mps-control", STARTS + control)
    logs = tmp_path / "logs"
    result = run_script("bash", "-c", MPS, PATH=path, MPS_LOGS=str(logs))
    assert result.returncode == 0, result.stderr
    *said, before, after = result.stdout.splitlines()
    assert after == "HAS_MPS=0 pipe="
    assert (logs / "start.log").read_text().startswith("started\n")
    if problem:
        assert said == [f"# processes take turns on the GPU: {problem}; what MPS says is in {logs}"]
        assert before == after
    else:
        assert said == []
        assert before == "HAS_MPS=1 pipe=set"


# Runs what it is told to as one of its tools, and only says so as the others.
SANITIZER = 'echo "as $1 $2 $3 $4"; [ "$1" != --tool=memcheck ] || { shift 4; exec "$@"; }'


def test_each_of_the_sanitizer_s_tools_runs_every_kernel(tmp_path: Path) -> None:
    path = stub(tmp_path, "compute-sanitizer", SANITIZER)
    result = run_script(str(SANITIZE), PATH=path, RANKS="2", SIZES="64", ODD="12", MINUTES="60")
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("memcheck", "racecheck", "synccheck"):
        assert result.stdout.count(f"as --tool={name} --error-exitcode=9 --target-processes all") == 5
    assert result.stdout.count("# 0 wrong elements") == 5
    for what in (
        "double_tree in packets",
        "double_tree in slots",
        "# sendrecv, ",
        " premul_sum ",
        " float16 ",
    ):
        assert what in result.stdout


def test_the_sanitizer_s_minutes_are_shared_and_what_has_none_is_named(tmp_path: Path) -> None:
    path = stub(
        tmp_path, "compute-sanitizer", 'case "$*" in *premul_sum*) exit 9;; *sendrecv*) exit 124;; esac'
    )
    result = run_script(str(SANITIZE), PATH=path, TOOLS="memcheck", MINUTES="1")  # 124: timeout has ended it
    assert result.returncode == 1
    assert (
        "# not done after 12 s, its share of the time: memcheck: ringtree gpu --as processes" in result.stdout
    )
    assert (
        "# failed, with status 9: memcheck: ringtree gpu --as processes -n 2 --op premul_sum" in result.stdout
    )
    result = run_script(str(SANITIZE), PATH=path, TOOLS="racecheck", MINUTES="0")
    assert result.returncode == 3
    assert result.stdout.count("# left out, for want of time: racecheck: ") == 5
