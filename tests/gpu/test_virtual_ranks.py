"""rt.cuda.VirtualRanks: all ranks of a world on one GPU, in one launch."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.cases import MISALIGNED, REDUCTIONS, Case, check, has_root, input_of, ops_of, output_size
from contract.reference import NUMPY_TYPES, supported
from gpu import memory
from gpu.memory import View, ones
from gpu.test_collectives import ENTRIES, NAMES, NO_KERNEL
from gpu.worlds import PROTOCOLS, WORLDS, few, ordered
from hypothesis import given
from hypothesis import strategies as st
from ringtree import _core

MOST = 16


def run(ranks: rt.cuda.VirtualRanks, case: Case) -> list[Any]:
    """The results, by rank. A root's arrays are what all ranks pass: they must be of one size."""
    world = ranks.world_size
    skipped = 1 if case.form == MISALIGNED else 0
    kind = NUMPY_TYPES[case.dtype]
    most_in = max(input_of(case, rank, world).size for rank in range(world))
    most_out = max(output_size(case, rank, world) for rank in range(world))
    inputs = [memory.empty(most_in, kind, skipped) for _ in range(world)]
    for rank, x in enumerate(inputs):
        x[:] = input_of(case, rank, world)
    in_place = case.collective == "broadcast"
    outputs = inputs if in_place else [memory.empty(most_out, kind, skipped) for _ in range(world)]
    ranks.run(case.collective, inputs, outputs, op=case.op, root=case.root, algorithm=case.algorithm)
    results = [np.asarray(out) for out in outputs]  # waits
    ranks.check()
    if not in_place:
        for rank, x in enumerate(inputs):
            assert memory.same(x, input_of(case, rank, world)), f"{case}: rank {rank}'s input changed"
    at_root_alone = case.collective in ("reduce", "gather")
    return [None if at_root_alone and rank != case.root else result for rank, result in enumerate(results)]


ranks_of = cache(rt.cuda.VirtualRanks)


@st.composite
def cases(draw: st.DrawFn, collective: str, algorithm: str, world: int) -> Case:
    op = draw(st.sampled_from([op for op in ops_of(collective) if op != "premul_sum"]))
    return Case(
        collective,
        algorithm,
        draw(st.sampled_from([dtype for dtype in rt.DTYPES if supported(op, dtype)])),
        draw(st.one_of(st.integers(0, 70), st.integers(0, 20_000))),
        op,
        draw(st.sampled_from(["apart", MISALIGNED])),
        draw(st.integers(0, world - 1)) if has_root(collective) else 0,
        rounds=collective in REDUCTIONS,
        seed=draw(st.integers(0, 2**32)),
    )


def run_and_check(ranks: rt.cuda.VirtualRanks, sequence: list[Case]) -> None:
    for case in sequence:
        first, second = run(ranks, case), run(ranks, case)
        check(case, first)
        for one, other in zip(first, second, strict=True):
            assert one is None or memory.same(one, other), f"{case}: other bits from the same call again"


@pytest.mark.parametrize(("collective", "algorithm"), ENTRIES)
@given(data=st.data(), world=st.integers(min(WORLDS), max(WORLDS)))
def test_every_algorithm_agrees_with_numpy(
    collective: str, algorithm: str, data: st.DataObject, world: int
) -> None:
    sequence = data.draw(st.lists(cases(collective, algorithm, world), min_size=3, max_size=5))
    run_and_check(ranks_of(world), sequence)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@few
@given(data=st.data())
def test_every_protocol_is_met_in_every_world(data: st.DataObject, protocol: str, world: int) -> None:
    """By one half of the algorithms, and by the other one in the next world."""
    entries = ENTRIES[world % 2 :: 2]
    with ordered(protocol):
        ranks = rt.cuda.VirtualRanks(world)  # not kept: a device does not hold so many
    assert ranks._core.protocol() == NAMES[protocol]
    run_and_check(
        ranks, [data.draw(cases(collective, algorithm, world)) for collective, algorithm in entries]
    )


def test_as_many_ranks_as_there_may_be_sum() -> None:
    ranks = rt.cuda.VirtualRanks(MOST)
    assert ranks.world_size == MOST
    x = [memory.on_gpu(np.full(1001, rank, np.float32)) for rank in range(MOST)]
    ranks.run("all_reduce", x, x)
    assert all((np.asarray(each) == sum(range(MOST))).all() for each in x)


@pytest.mark.parametrize("algorithm", [*rt.algorithms("barrier"), "auto"])
def test_a_barrier_ends(algorithm: str) -> None:
    ranks, x = rt.cuda.VirtualRanks(5), [ones(1) for _ in range(5)]
    ranks.run("barrier", x, x, algorithm=algorithm)
    assert [np.asarray(each).tolist() for each in x] == [[1.0]] * 5
    ranks.check()


@pytest.mark.parametrize("world", [1, 2, 5, 8])
@pytest.mark.parametrize("collective", rt.COLLECTIVES)
def test_what_auto_takes_has_a_kernel_and_runs(collective: str, world: int) -> None:
    ranks = ranks_of(world)
    for nbytes in (0, 8, 1 << 12, 1 << 20, 1 << 30):
        chosen = ranks.chosen(collective, nbytes)
        assert chosen in (*rt.algorithms(collective), rt.ZERO_COPY)
        assert (collective, chosen) not in NO_KERNEL


Arrays = list[View]
Call = Callable[[rt.cuda.VirtualRanks], object]

REFUSED: dict[str, tuple[Call, str]] = {
    "too few inputs": (
        lambda ranks: ranks.run("all_reduce", [ones()], [ones(), ones()]),
        "virtual ranks: there must be 2 arrays of one size and type, not float32 x 8",
    ),
    "none": (lambda ranks: ranks.run("all_reduce", [], []), "virtual ranks: there must be 2 arrays"),
    "outputs of two sizes": (
        lambda ranks: ranks.run("all_reduce", [ones(), ones()], [ones(), ones(9)]),
        "virtual ranks: there must be 2 arrays of one size and type, not float32 x 8, float32 x 9",
    ),
    "outputs of another type": (
        lambda ranks: ranks.run("all_reduce", [ones(), ones()], [ones(8, "int32"), ones(8, "int32")]),
        "virtual ranks: inputs are float32 x 8 but outputs are int32 x 8",
    ),
    "outputs longer than inputs": (
        lambda ranks: ranks.run("all_reduce", [ones(), ones()], [ones(9), ones(9)]),
        "virtual ranks: inputs are float32 x 8 but outputs are float32 x 9",
    ),
    "outputs for fewer ranks": (
        lambda ranks: ranks.run("all_gather", [ones(), ones()], [ones(8), ones(8)]),
        "virtual ranks: inputs are float32 x 8 but outputs are float32 x 8",
    ),
    "inputs for fewer ranks": (
        lambda ranks: ranks.run("reduce_scatter", [ones(), ones()], [ones(8), ones(8)]),
        "virtual ranks: inputs are float32 x 8 but outputs are float32 x 8",
    ),
    "unequal parts": (
        lambda ranks: ranks.run("all_to_all", [ones(9), ones(9)], [ones(9), ones(9)]),
        "virtual ranks: inputs are float32 x 9",
    ),
    "arrays on the CPU": (
        lambda ranks: ranks.run("all_reduce", [np.ones(8)] * 2, [np.ones(8)] * 2),
        "virtual ranks need arrays on a GPU",
    ),
    "some on the CPU": (
        lambda ranks: ranks.run("all_reduce", [ones(), np.ones(8, np.float32)], [ones(), ones()]),
        "virtual ranks need arrays on a GPU",
    ),
    "collective": (
        lambda ranks: ranks.run("all_sum", [ones()] * 2, [ones()] * 2),
        "there is no collective 'all_sum'",
    ),
    "algorithm": (
        lambda ranks: ranks.run("all_reduce", [ones()] * 2, [ones()] * 2, algorithm="quickest"),
        "quickest",
    ),
    "no kernel": (
        lambda ranks: ranks.run("all_gather", [ones()] * 2, [ones(16)] * 2, algorithm="recursive_doubling"),
        "there is no kernel of all_gather_recursive_doubling",
    ),
    "op": (
        lambda ranks: ranks.run("all_reduce", [ones()] * 2, [ones()] * 2, op="mean"),
        "there is no op 'mean'",
    ),
    "op of integers": (
        lambda ranks: ranks.run("all_reduce", [ones()] * 2, [ones()] * 2, op="bxor"),
        "op bxor does not exist for float32",
    ),
    "factor": (
        lambda ranks: ranks.run("all_reduce", [ones()] * 2, [ones()] * 2, op=rt.premul_sum(2)),
        "virtual ranks: premul_sum needs a factor a rank; scale the arrays instead",
    ),
    "root": (
        lambda ranks: ranks.run("broadcast", [ones()] * 2, [ones()] * 2, root=2),
        "root must be a rank of this world, 0 to 1, not 2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_said_and_one_can_go_on(name: str) -> None:
    call, text = REFUSED[name]
    ranks = ranks_of(2)
    with pytest.raises(rt.InvalidArgument, match=re.escape(text)):
        call(ranks)
    x = [ones(), ones()]
    ranks.run("all_reduce", x, x)
    assert all((np.asarray(each) == 2).all() for each in x)
    ranks.check()


@pytest.mark.parametrize("world", [-1, 0, MOST + 1, 1 << 20])
def test_worlds_that_do_not_fit_are_refused(world: int) -> None:
    with pytest.raises(rt.InvalidArgument, match=str(world)):
        rt.cuda.VirtualRanks(world)


def test_threads_make_objects_of_the_core_at_once() -> None:
    """Their constructors call CUDA without Python's lock, and must not enter the objects without it."""

    def make(_: int) -> int:
        return len([_core.GpuTimer() for _ in range(2000)])

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(make, range(4))) == [2000] * 4
