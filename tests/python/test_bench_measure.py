"""The measuring itself, on ranks that are threads: liars are found, refusals reported, all ranks agree."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import ringtree as rt
from ringtree_bench.buffers import Buffers
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.limits import Limits, measure_limits
from ringtree_bench.measure import Contender, Stage
from ringtree_bench.rivals import Ringtree, Task, UnsupportedError
from ringtree_bench.rounds import Budget, Measurement, Timing
from ringtree_bench.world import World

BUDGET = Budget(rounds=4)


class Liar(Ringtree):
    """Does the work, then spoils one element of one rank's result."""

    name = "liar"

    def prepare(self, task: Task) -> Callable[[], object]:
        honest = super().prepare(task)
        result = task.x if COLLECTIVES[task.collective].in_place else task.out

        def lie() -> None:
            honest()
            if task.rank == 0:
                result[result.size // 2] += 1

        return lie


class Idler(Ringtree):
    """Does nothing at all, very fast."""

    name = "idler"

    def prepare(self, task: Task) -> Callable[[], object]:
        return lambda: None


class Refuser(Ringtree):
    """Supports nothing."""

    name = "refuser"

    def prepare(self, task: Task) -> Callable[[], object]:
        raise UnsupportedError("not today")


class PartialRefuser(Ringtree):
    """Refuses on the last rank only, as a broken installation would."""

    name = "partial"

    def prepare(self, task: Task) -> Callable[[], object]:
        if task.rank == task.world - 1:
            raise UnsupportedError("not here")
        return lambda: None


def measured(
    comm: rt.Communicator, cases: list[Case], rivals: list[type[Ringtree]], budget: Budget = BUDGET
) -> list[Measurement]:
    world = World(comm)
    stage = Stage(world, Buffers(cases), seed=world.agree(11))
    contenders = [Contender(rival(comm)) for rival in rivals]
    return [stage.measure(case, contenders, budget) for case in cases]


def cases_of(name: str, sizes: list[int], world: int) -> list[Case]:
    return cases_of_sizes(name, sizes, "float32", "sum", world)


@pytest.mark.parametrize(
    ("name", "world"),
    [(name, world) for name in COLLECTIVES for world in (1, 2, 3) if (name, world) != ("sendrecv", 1)],
)
def test_every_collective_is_right_and_timed(name: str, world: int) -> None:
    cases = cases_of(name, [64 * world, 40_000], world)
    for results in rt.run_local(world, partial(measured, cases=cases, rivals=[Ringtree])):
        for result in results:
            assert result.timings[0].wrong == 0
            assert len(result.timings[0].samples) == 4
            assert min(result.timings[0].samples) > 0


@pytest.mark.parametrize("name", COLLECTIVES)
def test_one_spoiled_element_is_counted_in_both_checked_calls(name: str) -> None:
    for (result,) in rt.run_local(
        2, partial(measured, cases=cases_of(name, [4096], 2), rivals=[Liar, Ringtree])
    ):
        assert result.timings[0].wrong == 2
        assert result.timings[1].wrong == 0


def test_whoever_does_nothing_is_wrong_almost_everywhere() -> None:
    case = cases_of("all_gather", [8192], 2)
    for (result,) in rt.run_local(2, partial(measured, cases=case, rivals=[Idler])):
        assert result.timings[0].wrong == 2 * 2 * 2048  # both checks, both ranks, the whole result


def test_a_rival_that_refuses_is_left_out_on_all_ranks_and_says_why() -> None:
    rivals = [Refuser, Ringtree, PartialRefuser]
    for (result,) in rt.run_local(2, partial(measured, cases=cases_of("all_reduce", [64], 2), rivals=rivals)):
        assert result.refused == {0: "not today", 2: "not here"}
        assert list(result.timings) == [1]


def test_all_ranks_hold_the_same_times_those_of_the_slowest() -> None:
    first, second = rt.run_local(
        2, partial(measured, cases=cases_of("all_reduce", [64], 2), rivals=[Ringtree])
    )
    assert first[0].timings[0].samples == second[0].timings[0].samples


def test_a_budget_of_time_still_runs_the_fewest_rounds() -> None:
    case = cases_of("all_reduce", [1 << 20], 2)
    for (result,) in rt.run_local(
        2, partial(measured, cases=case, rivals=[Ringtree], budget=Budget(seconds=1e-9))
    ):
        assert len(result.timings[0].samples) == 5


def test_a_timing_reports_quantiles_and_spread() -> None:
    timing = Timing(tuple(float(value) for value in range(1, 12)), calls_per_sample=1, wrong=0)
    assert (timing.median, timing.quantile(0.1), timing.quantile(0.9)) == (6, 2, 10)
    assert timing.spread == pytest.approx(8 / 6)


def test_ranks_leave_the_alignment_together_and_agree_on_what_the_first_says() -> None:
    def body(comm: rt.Communicator) -> tuple[object, list[object]]:
        world = World(comm)
        for _ in range(3):
            world.align()
        return world.agree({"rank": comm.rank}), world.gather("x" * (100 * comm.rank))

    for agreed, gathered in rt.run_local(3, body):
        assert agreed == {"rank": 0}
        assert gathered == ["", "x" * 100, "x" * 200]


def test_the_ideal_time_follows_from_the_copies_of_all_ranks() -> None:
    copies = {1: {1 << 20: 5e9, 64 << 20: 1e9}, 2: {1 << 20: 8e9, 64 << 20: 2e9}}
    passes = {1: {1 << 20: 6e9, 64 << 20: 2e9}, 2: {1 << 20: 9e9, 64 << 20: 3e9}}
    limits = Limits(copies, passes)
    small, large = cases_of("all_to_all", [1 << 19, 128 << 20], 2)
    assert limits.ideal_seconds(small) == pytest.approx(2 * (1 << 19) / 8e9)  # two arrays copied at 8 GB/s
    assert limits.ideal_seconds(large) == pytest.approx(2 * (128 << 20) / 2e9)
    assert limits.ideal_seconds(cases_of("all_reduce", [1 << 20], 2)[0]) == pytest.approx(2 * (1 << 20) / 9e9)
    assert limits.ideal_seconds(cases_of("all_reduce", [1 << 20], 1)[0]) == 0


def test_memory_is_measured_with_one_and_with_two_ranks() -> None:
    for limits in rt.run_local(
        2, lambda comm: measure_limits(World(comm), cases_of("all_reduce", [1 << 20], 2))
    ):
        for rates in (limits.memcpy, limits.in_place):
            assert list(rates) == [1, 2]
            assert all(rate > 1e8 for by_size in rates.values() for rate in by_size.values())
        (line,) = limits.lines()
        assert line.startswith("memory, 1M a rank: memcpy 1 rank ")


def test_buffers_of_all_rivals_and_sizes_are_the_same_pages() -> None:
    small, large = cases_of("all_gather", [4096, 8192], 2)
    buffers = Buffers([small, large])
    assert buffers.of(small)[1].ctypes.data == buffers.of(large)[1].ctypes.data
    assert buffers.of(large)[0].ctypes.data % 4096 == 0
    assert buffers.of(large)[1].dtype == np.float32
