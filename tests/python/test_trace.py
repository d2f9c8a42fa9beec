"""The flight recorder, what ranks leave behind after an error, and `ringtree trace`, which tells it."""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from click.testing import CliRunner
from contract.attempts import assert_error, attempt
from contract.processes import Processes, listen, run_processes, tell
from ringtree.cli import main
from ringtree.snapshots import parse
from ringtree.story import tell as story_of


def trace(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["trace", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def three_calls_and_then(comm: rt.Communicator, last: str) -> BaseException | None:
    x = np.ones(1000, np.float32)
    for _ in range(3):
        comm.all_reduce(x)
    peer = (comm.rank + 1) % comm.world_size
    calls: dict[str, Callable[[], object]] = {
        "diverge": lambda: comm.broadcast(x) if comm.rank == 1 else comm.all_reduce(x),
        "never": lambda: time.sleep(3) if comm.rank == 1 else comm.all_reduce(x),
        "die": lambda: os.kill(os.getpid(), signal.SIGKILL) if comm.rank == 1 else comm.all_reduce(x),
        "receive": lambda: comm.recv(x, peer) if comm.rank == 0 else time.sleep(3),
        "queued": lambda: comm.all_reduce(x if comm.rank else x[1:], async_op=True).wait(),  # type: ignore[union-attr]
    }
    return attempt(calls[last]).error


def traced(folder: Path, world: int, last: str, timeout: float = 60) -> list[BaseException | None]:
    outcomes = run_processes(
        world,
        three_calls_and_then,
        last,
        environment={"RINGTREE_TRACE_DIR": str(folder)},
        options={"timeout": timeout},
    )
    return [outcome.value for outcome in outcomes]


def dumps(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.iterdir())]


def test_ranks_that_diverge_are_told_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "for it"
    errors = traced(folder, 3, "diverge")
    for error in errors:
        assert_error(error, rt.Mismatch, f"What led to it is in {folder}/", f"run ringtree trace {folder}.")
    assert sorted(dump["rank"] for dump in dumps(folder)) == [0, 1, 2]
    output = trace(folder)
    assert "3 ranks on " in output
    assert "as told by ranks 0, 1 and 2" in output
    assert (
        "rank 1 called broadcast #4 (float32 x 1000, root 0, one_shot) where ranks 0 and 2 called " in output
    )
    assert "Mismatch: rank " in output
    assert "wait for" not in output


def test_a_rank_that_never_comes_is_told_with_its_last_call(tmp_path: Path) -> None:
    errors = traced(tmp_path, 3, "never", timeout=1)
    assert_error(errors[0], rt.Timeout, ranks=(1,))
    output = trace(tmp_path, "--last", 2)
    assert "rank 1 never arrived at all_reduce #4 (float32 x 1000, sum, one_shot). Its process (" in output
    assert (
        ") runs; it was last seen in all_reduce #3 (float32 x 1000, sum, one_shot), which it finished, "
        in output
    )
    row = next(line for line in output.splitlines() if line.startswith("all_reduce #4"))
    assert row.split()[-6:] == ["in", "it", "not", "there", "in", "it"]
    assert "all_reduce #2" not in output


def test_a_killed_rank_is_in_the_traces_of_the_others(tmp_path: Path) -> None:
    traced(tmp_path, 4, "die")
    assert sorted(dump["rank"] for dump in dumps(tmp_path)) == [0, 2, 3]
    for dump in dumps(tmp_path):
        dead = dump["ranks"][1]
        assert dead["process"] == "ended"
        assert [call["sequence"] for call in dead["calls"]] == [1, 2, 3]
        assert all(call["done"] for call in dead["calls"])
    output = trace(tmp_path)
    assert "RankFailure: rank 1 died" in output
    assert "has ended; it was last seen in all_reduce #3" in output


def test_a_message_that_nobody_answers_is_told(tmp_path: Path) -> None:
    traced(tmp_path, 2, "receive", timeout=1)
    assert (
        "rank 0 waits in recv #1 from rank 1 (float32 x 1000), for 1.0 s; rank 1 has made 0 matching calls."
        in trace(tmp_path)
    )


def test_errors_of_asynchronous_calls_leave_traces_too(tmp_path: Path) -> None:
    errors = traced(tmp_path, 2, "queued")
    for error in errors:
        assert_error(error, rt.Mismatch, f"run ringtree trace {tmp_path}.")
    assert "float32 x 999" in trace(tmp_path)


def stopped_in_the_middle(comm: rt.Communicator) -> BaseException | None:
    tell("ready")
    listen()

    def work() -> None:
        for _ in range(1_000_000):
            comm.all_reduce(np.ones(1 << 16))

    return attempt(work).error


def test_the_rank_that_all_others_wait_for_is_found(tmp_path: Path) -> None:
    environment = {
        "RINGTREE_TRACE_DIR": str(tmp_path),
        "RINGTREE_ALGORITHM": "ring",  # in which ranks 0 and 1 wait for one another
        "RINGTREE_FAULT": "rank=2,seq=5,kind=stop,at=middle",
    }
    with Processes(3, stopped_in_the_middle, environment=environment, options={"timeout": 1}) as ranks:
        for rank in range(3):
            ranks.hear(rank)
        for rank in range(3):
            ranks.say(rank)
        for rank in (0, 1):
            assert ranks.wait_for(rank, 30)
        os.kill(ranks.pids[2], signal.SIGCONT)
        ranks.outcomes()
    told = [
        parse(path.read_text())
        for path in sorted(tmp_path.iterdir())
        if path.name.endswith(("-0.json", "-1.json"))
    ]
    assert f"(process {told[0].ranks[2].pid}) " not in " ".join(story_of(told))
    assert f"It waits for nobody; its process ({told[0].ranks[2].pid}) is stopped." in " ".join(
        story_of(told)
    )


def dumped(comm: rt.Communicator, path: str) -> dict[str, Any] | None:
    x = comm.empty(1 << 18)
    small = np.ones(3)
    for _ in range(100):
        comm.all_reduce(small)
    for _ in range(3):
        comm.all_reduce(x)
    comm.sendrecv(small, small.copy(), to=1 - comm.rank, source=1 - comm.rank)
    comm.barrier()
    if comm.rank:
        return None
    comm.dump(path)
    document: dict[str, Any] = json.loads(Path(path).read_text())
    return document


def test_a_dump_on_demand_holds_the_newest_calls_of_all_ranks(tmp_path: Path) -> None:
    before = time.monotonic_ns()
    document = run_processes(2, dumped, str(tmp_path / "dump.json"))[0].result()
    after = time.monotonic_ns()
    assert document["version"] == 1
    assert (document["world"], document["rank"], document["fault"]) == (2, 0, None)
    for view in document["ranks"]:
        assert view["process"] == "runs"
        assert view["entered"] == 104
        assert view["moved_bytes"] == 100 * 24 + 3 * 4 * (1 << 18)
        calls = view["calls"]
        assert [call["sequence"] for call in calls] == list(range(41, 105))  # the newest 64
        assert calls[0]["call"] == "all_reduce #41 (float64 x 3, sum, one_shot)"
        assert (calls[0]["reduction"], calls[0]["root"], calls[-1]["reduction"]) == ("sum", None, None)
        began = [call["began_ns"] for call in calls]
        assert all(
            before - 20_000_000 <= time <= after for time in began
        )  # the clock of short calls is coarse
        large = [call for call in calls if call["bytes"] == 1 << 20]
        assert [call["algorithm"] for call in large[1:]] == ["zero_copy", "zero_copy"]
        assert all(call["began_ns"] < call["ended_ns"] < after for call in large)
        assert sorted(message["op"] for message in view["messages"]) == ["recv", "send"]
        assert all(message["done"] and message["count"] == 3 for message in view["messages"])
    assert "Nothing is amiss" in trace(tmp_path / "dump.json")


def without_recorder(comm: rt.Communicator) -> dict[str, Any]:
    comm.all_reduce(np.ones(1 << 18))
    comm.barrier()
    document: dict[str, Any] = json.loads(comm._core.snapshot())
    return document


def test_the_recorder_can_be_off() -> None:
    for outcome in run_processes(2, without_recorder, environment={"RINGTREE_RECORDER": "off"}):
        view = outcome.result()["ranks"][0]
        assert [call["began_ns"] for call in view["calls"]] == [None, None]
        assert view["moved_bytes"] == 0


def test_ranks_that_are_threads_leave_traces_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_TRACE_DIR", str(tmp_path))

    def disagree(comm: rt.Communicator) -> BaseException | None:
        return attempt(lambda: comm.all_reduce(np.ones(comm.rank + 1))).error

    for error in rt.run_local(3, disagree):
        assert_error(error, rt.Mismatch, f"run ringtree trace {tmp_path}.")
    assert "called all_reduce #1 (float64 x 2, sum, one_shot)" in trace(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "it is not a snapshot (JSONDecodeError"),
        ('{"version": 2}', "its version is 2, and this ringtree reads 1"),
        ('{"version": 1}', "it is not a snapshot (KeyError"),
    ],
)
def test_files_of_others_are_refused(tmp_path: Path, content: str, why: str) -> None:
    (tmp_path / "x.json").write_text(content)
    result = CliRunner().invoke(main, ["trace", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path}/x.json cannot be read: {why}" in result.output


def test_a_folder_without_traces_says_what_to_do(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["trace", str(tmp_path)])
    assert result.exit_code == 1
    assert f"set RINGTREE_TRACE_DIR={tmp_path} and run the program again" in result.output


def test_a_folder_that_cannot_be_written_is_said_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    errors: Sequence[BaseException | None] = traced(tmp_path / "file", 2, "diverge")
    for error in errors:
        assert_error(error, rt.Mismatch, "What led to it could not be written to ")
