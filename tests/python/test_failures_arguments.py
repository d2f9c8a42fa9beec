"""What is wrong with an argument is said before anything is sent, and one can go on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import ringtree as rt
from contract.attempts import (
    EVERY_CALL,
    USABLE,
    Attempt,
    Call,
    assert_error,
    attempt,
    ones,
)
from contract.worlds import run_everywhere
from ringtree._core import TRANSPORTS

everywhere = pytest.mark.parametrize("transport", TRANSPORTS)


READ_ONLY = np.ones(8, np.float32)
READ_ONLY.flags.writeable = False
LONG = np.ones(30, np.float32)

# What every rank of a world of 2 calls, and what each is told.
INVALID: dict[str, tuple[Call, tuple[str, ...]]] = {
    "no array": (lambda comm: comm.all_reduce([1.0, 2.0]), ("all_reduce", "x ", "list")),
    "nothing": (lambda comm: comm.all_reduce(None), ("all_reduce", "x ", "None", "not an array")),
    "a type there is not": (
        lambda comm: comm.all_reduce(ones(8, "complex64")),
        ("all_reduce", "x ", "complex64", "there are float64, float32, "),
    ),
    "foreign byte order": (lambda comm: comm.all_reduce(ones(8, ">f4")), ("all_reduce", "x ", "byte")),
    "not contiguous": (lambda comm: comm.all_reduce(LONG[::2]), ("all_reduce", "x ", "contiguous")),
    "transposed": (lambda comm: comm.broadcast(LONG.reshape(5, 6).T), ("broadcast", "x ", "contiguous")),
    "read-only": (lambda comm: comm.all_reduce(READ_ONLY), ("all_reduce", "x ", "read-only")),
    "read-only to receive into": (
        lambda comm: comm.recv(READ_ONLY, 1 - comm.rank),
        ("recv", "x ", "read-only"),
    ),
    "an op there is not": (
        lambda comm: comm.all_reduce(ones(), "mean"),
        ("all_reduce", "there is no op 'mean'", "there are sum, prod, min, max, avg, "),
    ),
    "an op without its factor": (
        lambda comm: comm.reduce(ones(), 0, "premul_sum"),
        ("reduce", "op 'premul_sum' needs a factor"),
    ),
    "bits of a float": (
        lambda comm: comm.all_reduce(ones(), "bxor"),
        ("all_reduce", "op bxor does not exist for float32", "band, bor and bxor need integers or bool"),
    ),
    "an average of integers": (
        lambda comm: comm.reduce_scatter(ones(2, "int32"), ones(4, "int32"), "avg"),
        ("reduce_scatter", "op avg does not exist for int32", "avg and premul_sum need a float type"),
    ),
    "an algorithm there is not": (
        lambda comm: comm.all_reduce(ones(), algorithm="butterfly"),
        ("all_reduce", "there is no algorithm 'butterfly'", "there are auto, ", "ring"),
    ),
    "an algorithm of another collective": (
        lambda comm: comm.barrier(algorithm="ring"),
        ("barrier", "there is no algorithm 'ring'", "there are auto, ", "dissemination"),
    ),
    "an algorithm for even shares": (
        lambda comm: comm.all_to_all_v(
            ones(3),
            ones(2 + 2 * comm.rank),
            [1 + comm.rank, 2 - comm.rank],
            [1 + comm.rank] * 2,
            algorithm="one_shot",
        ),
        ("all_to_all", "the algorithm 'one_shot' needs shares of equal size"),
    ),
    "a root that is too large": (
        lambda comm: comm.broadcast(ones(), 2),
        ("broadcast", "root must be a rank of this world, 0 to 1, not 2"),
    ),
    "a negative root": (
        lambda comm: comm.reduce(ones(), -1),
        ("reduce", "root must be a rank of this world, 0 to 1, not -1"),
    ),
    "a root that is no number": (
        lambda comm: comm.broadcast(ones(), "first"),  # type: ignore[arg-type]
        ("broadcast", "root must be a rank of this world, 0 to 1, not 'first'"),
    ),
    "a gather to nobody": (
        lambda comm: comm.gather(None, ones(), 7),
        ("gather", "root must be a rank of this world, 0 to 1, not 7"),
    ),
    "a scatter from nobody": (
        lambda comm: comm.scatter(ones(), None, 7),
        ("scatter", "root must be a rank of this world, 0 to 1, not 7"),
    ),
    "an out of another size": (
        lambda comm: comm.all_reduce(ones(8), out=ones(9)),
        ("all_reduce", "out ", "9", "8"),
    ),
    "an out of another type": (
        lambda comm: comm.all_reduce(ones(8), out=ones(8, "float64")),
        ("all_reduce", "x is float32 x 8 but out is float64 x 8"),
    ),
    "an out for one share": (
        lambda comm: comm.all_gather(ones(8), ones(8)),
        ("all_gather", "out is float32 x 8, but must have 16 elements"),
    ),
    "an x for one share": (
        lambda comm: comm.reduce_scatter(ones(8), ones(8)),
        ("reduce_scatter", "x is float32 x 8, but must have 16 elements"),
    ),
    "no whole shares": (
        lambda comm: comm.all_to_all(ones(3), ones(3)),
        ("all_to_all", "x is float32 x 3, which makes no 2 equal parts"),
    ),
    "counts for others": (
        lambda comm: comm.all_gather_v(ones(3), ones(1), [1, 1, 1]),
        ("all_gather_v", "counts must be 2 numbers of elements, one for each rank, not [1, 1, 1]"),
    ),
    "negative counts": (
        lambda comm: comm.all_gather_v(ones(3), ones(4), [4, -1]),
        ("all_gather_v", "counts must be 2 numbers of elements, one for each rank, not [4, -1]"),
    ),
    "counts of something else": (
        lambda comm: comm.reduce_scatter_v(ones(3), ones(9), [3, 5]),
        ("reduce_scatter_v", "counts add up to 8 elements, but x holds float32 x 9"),
    ),
    "counts of another rank": (
        lambda comm: comm.all_gather_v(ones(7), ones(5), [3, 4]),
        ("all_gather_v", "x is float32 x 5, but must have "),
    ),
    "counts into another array": (
        lambda comm: comm.all_to_all_v(ones(4), ones(4), [2, 2], [2, 3]),
        ("all_to_all_v", "in_counts add up to 5 elements, but x holds float32 x 4"),
    ),
    "arrays that overlap": (
        lambda comm: comm.all_reduce(LONG[:20], out=LONG[10:]),
        ("all_reduce", "overlap in memory"),
    ),
    "another rank's share": (
        lambda comm: comm.all_gather(LONG[:8], LONG[4 - 4 * comm.rank :][:4]),
        ("all_gather", "overlap in memory"),
    ),
    "in place where that cannot be": (
        lambda comm: comm.all_to_all(LONG, LONG),
        ("all_to_all", "overlap in memory"),
    ),
    "a message to itself": (
        lambda comm: comm.send(ones(), comm.rank),
        ("send", "the peer must be another rank of this world of 2, not "),
    ),
    "a message from nobody": (
        lambda comm: comm.recv(ones(), 2),
        ("recv", "source must be a rank of this world, 0 to 1, not 2"),
    ),
    "messages of two types": (
        lambda comm: comm.sendrecv(ones(), ones(8, "int32"), to=1 - comm.rank, source=1 - comm.rank),
        ("sendrecv", "float32 x 8", "int32 x 8", "one type"),
    ),
}


def try_wrong_call_then_right_one(comm: rt.Communicator, call: Call) -> tuple[Attempt, Any]:
    tried = attempt(lambda: call(comm))
    x = ones()
    comm.all_reduce(x)
    return tried, x


@pytest.mark.parametrize("name", INVALID)
def test_a_wrong_argument_is_refused_and_the_communicator_stays_usable(name: str) -> None:
    call, (method, *fragments) = INVALID[name]
    for rank, (tried, x) in enumerate(rt.run_local(2, try_wrong_call_then_right_one, call)):
        assert_error(tried.error, rt.InvalidArgument, f"rank {rank}, {method}: ", *fragments, USABLE)
        assert isinstance(tried.error, ValueError)
        assert (x == 2).all()


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda torch: torch.ones(8, device="meta"), ["x ", "on meta", "CPU"]),
        (
            lambda torch: torch.ones(8, dtype=torch.complex64),
            ["x ", "complex64", "there are float64, float32, "],
        ),
        (lambda torch: torch.ones(8)[::2], ["x ", "contiguous"]),
    ],
    ids=["device", "dtype", "layout"],
)
def test_a_tensor_of_another_device_type_or_layout_is_refused(
    make: Callable[[Any], Any], texts: list[str]
) -> None:
    x = make(pytest.importorskip("torch"))
    [(tried, _)] = rt.run_local(1, try_wrong_call_then_right_one, lambda comm: comm.all_reduce(x))
    assert_error(tried.error, rt.InvalidArgument, "rank 0, all_reduce: ", *texts, USABLE)


class OnAnotherDevice:
    """What an array of another library on a GPU looks like."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0  # kDLCUDA

    def __dlpack__(self, **_: object) -> object:
        raise AssertionError("the memory of a GPU was asked for")


def test_an_array_of_another_device_is_refused() -> None:
    [(tried, _)] = rt.run_local(
        1, try_wrong_call_then_right_one, lambda comm: comm.all_reduce(OnAnotherDevice())
    )
    assert_error(tried.error, rt.InvalidArgument, "rank 0, all_reduce: x ", "CPU", USABLE)


@pytest.mark.parametrize("world", [0, -1])
def test_a_world_needs_a_rank(world: int) -> None:
    with pytest.raises(
        rt.InvalidArgument, match=f"the world size must be an integer of 1 or more, not {world}"
    ):
        rt.run_local(world, lambda comm: comm.rank)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_a_timeout_must_be_a_time(seconds: float) -> None:
    with pytest.raises(
        rt.InvalidArgument, match=rf"timeout={seconds} is no timeout: it must be a number of seconds above 0"
    ):
        rt.run_local(1, lambda comm: comm.rank, timeout=seconds)


def test_a_transport_must_be_one_of_the_catalogue() -> None:
    with pytest.raises(rt.InvalidArgument, match=r"'pigeon'.*shm.*threads"):
        rt.init(transport="pigeon")


def use_after_close(comm: rt.Communicator) -> dict[str, Attempt]:
    comm.close()
    comm.close()  # again: nothing happens
    return {name: attempt(lambda call=call: call(comm)) for name, call in EVERY_CALL.items()}  # type: ignore[misc]


@everywhere
def test_a_closed_communicator_says_so(transport: str) -> None:
    for rank, tried in enumerate(run_everywhere(transport, 2, use_after_close)):
        for name, one in tried.items():
            assert_error(one.error, rt.InvalidArgument, f"rank {rank}, {name}: this communicator is closed")
