"""RINGTREE_RECORDER=lines: where the program made each call, in dumps, in `ringtree trace` and in `ringtree top`."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from click.testing import CliRunner
from contract.attempts import attempt, sleep_when_blocked
from contract.processes import Processes, listen, run_processes, tell
from hypothesis import example, given
from hypothesis import strategies as st
from ringtree.cli import main

LINES = {"RINGTREE_RECORDER": "lines"}
ROOM = 95  # bytes for a line on a rank's board


def line_of(text: str) -> str:
    """Where the only line of this file that ends with a comment of `text` stands."""
    (number,) = (
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), start=1)
        if line.endswith(f"  # {text}")
    )
    return f"{__file__}:{number}"


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, [*map(str, arguments)], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    return result.output


def recorded(comm: rt.Communicator) -> list[str | None]:
    document: dict[str, Any] = json.loads(comm._core.snapshot())
    return [call["line"] for call in document["ranks"][comm.rank]["calls"]]


def make_three_calls(comm: rt.Communicator) -> list[str | None]:
    x = np.ones(3)
    comm.all_reduce(x)  # quick
    work = comm.all_reduce(x, async_op=True)  # queued
    assert work is not None
    work.wait()
    comm.all_gather_v(np.empty(6), x, [3, 3])  # thorough
    return recorded(comm)


def test_each_call_keeps_the_line_of_the_program_that_made_it() -> None:
    for outcome in run_processes(2, make_three_calls, environment=LINES):
        assert outcome.result() == [line_of("quick"), line_of("queued"), line_of("thorough")]


def test_lines_are_kept_only_where_they_are_asked_for() -> None:
    for outcome in run_processes(2, make_three_calls):
        assert outcome.result() == [None] * 3


def line_in(path: str) -> str:
    """What is kept of a call in the third line of the file `path`."""
    code = compile("\n\ncall()", path, "exec")

    def call(comm: rt.Communicator) -> str | None:
        exec(code, {"call": comm.barrier})
        return recorded(comm)[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RINGTREE_RECORDER", "lines")
        (line,) = rt.run_local(1, call)
    assert line is not None
    return line


@given(path=st.text("/aé漢", min_size=1, max_size=120))
@example(path="a" * 93)
@example(path="a" * 94)
def test_of_a_long_path_the_end_is_kept_in_whole_characters(path: str) -> None:
    line, whole = line_in(path), f"{path}:3"
    size = len(line.encode())
    if len(whole.encode()) <= ROOM:
        assert line == whole
    else:
        assert line.startswith("...")
        assert whole.endswith(line[3:])
        assert ROOM - 3 < size <= ROOM


def diverge(comm: rt.Communicator) -> BaseException | None:
    x = np.ones(1000)
    comm.all_reduce(x)
    if comm.rank == 1:
        return attempt(lambda: comm.broadcast(x)).error  # another way
    return attempt(lambda: comm.all_reduce(x)).error  # the usual way


def test_a_trace_says_where_ranks_diverged(tmp_path: Path) -> None:
    run_processes(3, diverge, environment={**LINES, "RINGTREE_TRACE_DIR": str(tmp_path)})
    assert (
        f"rank 1 called broadcast #2 (float64 x 1000, root 0, one_shot) at {line_of('another way')} "
        f"where ranks 0 and 2 called all_reduce #2 (float64 x 1000, sum, one_shot) at {line_of('the usual way')}."
    ) in command("trace", tmp_path)


def come_late(comm: rt.Communicator) -> None:
    comm.barrier()  # the last of rank 1
    if comm.rank == 1:
        tell("here")
        listen()
        return
    with suppress(rt.Timeout):
        if comm.rank == 0:
            comm.barrier()  # of rank 0
        else:
            comm.barrier()  # of rank 2


def test_a_trace_says_which_line_a_rank_never_came_to(tmp_path: Path) -> None:
    environment = {**LINES, "RINGTREE_TRACE_DIR": str(tmp_path)}
    with Processes(3, come_late, environment=environment, options={"timeout": 1}) as ranks:
        for rank in (0, 2):
            assert ranks.wait_for(rank, 30)
        ranks.hear(1)
        ranks.say(1)
        ranks.outcomes()
    story = command("trace", tmp_path)
    assert "rank 1 never arrived at barrier #2 (" in story
    assert f") at {line_of('of rank 0')} (rank 0) and {line_of('of rank 2')} (rank 2). Its process (" in story
    assert "it was last seen in barrier #1 (" in story
    assert f") at {line_of('the last of rank 1')}, which it finished" in story


def wait_in_a_call(comm: rt.Communicator) -> None:
    tell("ready")
    if comm.rank == 1:
        listen()
    comm.barrier()  # waits


def test_top_shows_the_line() -> None:
    with Processes(2, wait_in_a_call, environment=LINES) as ranks:
        for rank in range(2):
            ranks.hear(rank)
        sleep_when_blocked(ranks.pids[0])
        frame = command("top", ranks.pids[0], "--once")
        assert "barrier #1 (" in frame
        assert f") at {line_of('waits')}, begun " in frame
        ranks.say(1)
        for outcome in ranks.outcomes():
            outcome.result()


def test_another_setting_of_the_recorder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGTREE_RECORDER", "everything")
    with pytest.raises(
        rt.InvalidArgument, match="RINGTREE_RECORDER must be on, off or lines, not 'everything'"
    ):
        rt.run_local(1, lambda comm: None)
