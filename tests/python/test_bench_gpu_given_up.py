"""A contender whose call never ends is a line of the table, and so is every other one; a killed run keeps its rows."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contract.emulated import environment, needs_emulator, run
from ringtree_bench.growing import GrowingRecord
from stand_ins.ranks import WITHOUT_TORCH, Done, path_of, run_ranks

# One rank's calls of "double_tree" do nothing from the given one on, so that the others wait for it in vain.
SILENT = """
import sys
from dataclasses import replace
from itertools import count
from ringtree.cli import main
from ringtree_bench.gpu.rivals import OnGpu

FIRST, RANK = map(int, sys.argv[1:3])
prepare = OnGpu.prepare

def silent(self, case, memory, algorithm):
    prepared = prepare(self, case, memory, algorithm)
    if not algorithm.startswith("double_tree") or self._seat.ranks != (RANK,):
        return prepared
    number = count()
    return replace(prepared, call=lambda: prepared.call() if next(number) < FIRST else None)

OnGpu.prepare = silent
sys.argv[1:] = sys.argv[3:]
main(prog_name="ringtree")
"""

# The calls of a world that is measured: the first one, a check, at least three probes.
IN_THE_FIRST_CALL, IN_THE_CHECK, IN_THE_ROUNDS = 0, 1, 3


@needs_emulator
@pytest.mark.parametrize(
    ("kind", "first", "rank", "ways"),
    [
        ("threads", IN_THE_CHECK, 0, ["double_tree"]),
        ("threads", IN_THE_ROUNDS, 1, ["double_tree", "double_tree in a graph"]),
        ("processes", IN_THE_FIRST_CALL, 0, ["double_tree"]),
    ],
)
def test_an_algorithm_that_never_ends_is_a_line_and_the_others_are_measured(
    kind: str, first: int, rank: int, ways: list[str], tmp_path: Path
) -> None:
    path, script = tmp_path / "gpu.jsonl", tmp_path / "silent.py"
    script.write_text(SILENT)
    result = start(script, kind, str(first), str(rank), "gpu", "--as", kind, "--algorithm", "double_tree,ring",
                   *(["--graph"] if len(ways) > 1 else []), "--sizes", "64,1K", "--iterations", "1",
                   "--json", str(path))  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    for way in ways:
        assert f"# ringtree {way} was given up in all_reduce sum of float32: Timeout: " in result.stdout
    given_up = ", ".join(f"ringtree {way}" for way in ways)
    assert result.stdout.endswith(f"# 0 wrong elements\n# given up: {given_up}\n")
    (record,) = map(json.loads, path.read_text().splitlines())
    assert record["complete"]
    assert sum("was given up" in note for note in record["notes"]) == len(ways)
    measured = {(row["algorithm"], row["size"]) for row in record["rows"] if row["ringtree"]}
    others = [way.replace("double_tree", "ring") for way in ways]
    assert measured == {(name, size) for name in others for size in (64, 1024)}
    assert len(record["rows"]) == 2 * 2 * len(ways)


def start(script: Path, kind: str, *arguments: str) -> Done:
    """Run the script by itself, with two ranks that are threads, or as each of two ranks; of them the first."""
    settings = {"RINGTREE_TIMEOUT": "2", "PYTHONPATH": path_of(WITHOUT_TORCH)}
    if kind == "threads":
        return run(str(script), *arguments, "-n", "2", **settings)
    first, second = run_ranks(2, script.parent, str(script), *arguments, **settings)
    assert second.returncode == 0, second.stderr
    return first


# As if all ranks of one launch had given up waiting, once.
GIVES_UP_ONCE = """
import ringtree as rt
from ringtree.cli import main
check, asked = rt.cuda.VirtualRanks.check, []

def given_up(self):
    asked.append(self)
    if len(asked) == 3:
        raise rt.Timeout("call #3 was not complete in time")
    check(self)

rt.cuda.VirtualRanks.check = given_up
main(prog_name="ringtree")
"""


@needs_emulator
def test_virtual_ranks_are_made_anew_when_a_call_of_theirs_has_not_ended(tmp_path: Path) -> None:
    script = tmp_path / "once.py"
    script.write_text(GIVES_UP_ONCE)
    result = run(
        str(script), "gpu", "-n", "2", "--algorithm", "ring,one_shot", "--sizes", "64", "--iterations", "1"
    )
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.count(" was given up in all_reduce sum of float32: Timeout: call #3 was not") == 1
    rows = [line.split() for line in result.stdout.splitlines() if not line.startswith("#")]
    assert [row[5] == "-" for row in rows] == [True, False]  # the third question is behind the first check


@needs_emulator
def test_a_run_that_is_killed_keeps_the_rows_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "gpu.jsonl"
    path.write_text('{"kind": "before"}\n')
    options = ("--sizes", "64,1K,16M", "--seconds", "0.01", "--json", str(path))
    ranks = subprocess.Popen(
        [sys.executable, "-m", "ringtree", "gpu", "-n", "2", *options],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert ranks.stdout is not None
        rows = (line for line in ranks.stdout if not line.startswith("#"))
        next(rows), next(rows)  # the second is said before it is kept, the first has been by then
    finally:
        os.killpg(ranks.pid, signal.SIGKILL)
        ranks.wait()
    before, record = map(json.loads, path.read_text().splitlines())
    assert before == {"kind": "before"}
    assert not record["complete"]
    assert record["limits_after"] is None
    assert record["rows"][0]["size"] == 64
    assert record["rows"][0]["ringtree"]["wrong"] == 0


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_grows_in_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    first, second = GrowingRecord(path), GrowingRecord(path)
    first.write({"rows": [1, 2, 3]})
    first.write({"rows": [1]})
    assert lines_of(path) == [{"rows": [1]}]
    second.write({"rows": [7]})
    second.write({"rows": [7, 8]})
    assert lines_of(path) == [{"rows": [1]}, {"rows": [7, 8]}]
    first.write({"rows": [1, 2]})  # behind the other run's, which stays as it is
    second.write({"rows": [7, 8, 9]})
    assert lines_of(path) == [{"rows": [1]}, {"rows": [7, 8]}, {"rows": [1, 2]}, {"rows": [7, 8, 9]}]


def test_a_record_begins_behind_a_line_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text('{"rows": [1]}\n{"ro')
    GrowingRecord(path).write({"rows": [2]})
    assert path.read_text().splitlines() == ['{"rows": [1]}', '{"ro', '{"rows": [2]}']


def test_a_record_that_is_no_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    record = GrowingRecord(path)
    for rows in ([1], [1, 2]):
        record.write({"rows": rows})
        assert json.loads(path.read_text()) == {"rows": rows}
    assert [each.name for each in tmp_path.iterdir()] == ["some.json"]
