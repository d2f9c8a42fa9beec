import sys

import numpy as np
import pytest
import ringtree as rt

USABLE = "Nothing was sent and the communicator stays usable"


@pytest.fixture
def alone():
    with rt.init(timeout=5) as comm:
        yield comm


def refused(comm, message, call, *args, **kwargs):
    with pytest.raises(rt.InvalidArgument, match=message) as caught:
        getattr(comm, call)(*args, **kwargs)
    assert str(caught.value).startswith(f"rank {comm.rank}, {call}: ")
    assert USABLE in str(caught.value)
    comm.barrier()


def test_wrong_arguments_are_refused_and_leave_the_communicator_usable(alone):
    x, y = np.zeros(4), np.zeros(4)
    refused(alone, "no op 'mean'; there are sum", "all_reduce", x, "mean")
    refused(alone, "needs a factor", "all_reduce", x, "premul_sum")
    refused(alone, "op band does not exist for float64", "all_reduce", x, "band")
    refused(alone, "op avg does not exist for int32", "all_reduce", np.zeros(4, np.int32), "avg")
    refused(alone, "no algorithm 'magic'", "all_reduce", x, algorithm="magic")
    refused(alone, r"out has the shape \(3,\), but x has \(4,\)", "all_reduce", x, out=np.zeros(3))
    refused(alone, "x is float64 x 4 but out is float32 x 4", "all_reduce", x, out=np.zeros(4, np.float32))
    refused(alone, "root must be a rank of this world, 0 to 0, not 1", "broadcast", x, 1)
    refused(alone, "out is float64 x 5, but must have 4 elements", "all_gather", np.zeros(5), x)
    refused(alone, "counts must be 1 numbers", "all_gather_v", x, y, [2, 2])
    refused(alone, "it is a list, not an array", "all_reduce", [1.0])
    refused(alone, "it is a NoneType, not an array", "gather", None, x)
    refused(alone, "x and out overlap", "all_to_all", x, x)
    refused(alone, "x and out overlap in memory; in place, out is x itself", "all_reduce", x[:3], out=x[1:])


def test_peers_that_do_not_exist_are_refused():
    def body(comm):
        for call, name in (("send", "to"), ("recv", "source")):
            for peer in (-1, comm.world_size, "1"):
                refused(
                    comm,
                    f"{name} must be a rank of this world, 0 to 1, not {peer!r}",
                    call,
                    np.zeros(1),
                    peer,
                )
            refused(comm, "the peer must be another rank", call, np.zeros(1), comm.rank)

    rt.run_local(2, body)


def test_uneven_shares_go_where_the_counts_say():
    counts = [3, 0, 2]

    def body(comm):
        mine = np.full(counts[comm.rank], comm.rank + 1.0)
        everything = np.empty(5)
        comm.all_gather_v(everything, mine, counts)
        share = np.empty(counts[comm.rank])
        comm.reduce_scatter_v(share, everything, counts)
        return everything.tolist(), share.tolist()

    for rank, (everything, share) in enumerate(rt.run_local(3, body)):
        assert everything == [1, 1, 1, 3, 3]
        assert share == [3.0 * (rank + 1)] * counts[rank]


def test_shares_may_be_in_place():
    def body(comm):
        x = np.arange(6.0) + comm.rank
        mine = x[comm.rank * 2 : comm.rank * 2 + 2]
        comm.reduce_scatter(mine, x)
        comm.all_gather(x, mine)
        return x.tolist()

    assert rt.run_local(3, body) == [[3.0 * i + 3 for i in range(6)]] * 3


def test_premul_sum_takes_a_factor_of_each_rank():
    def body(comm):
        x = np.full(3, 10, np.float32)
        comm.all_reduce(x, rt.premul_sum(0.5 + comm.rank))
        return x.tolist()

    assert rt.run_local(2, body) == [[20.0] * 3] * 2


def test_async_calls_keep_their_arrays_alive():
    def body(comm):
        work = [comm.all_reduce(np.ones(50_000), async_op=True) for _ in range(20)]
        for item in work:
            item.wait(timeout=10)
            assert item.done()

    rt.run_local(3, body)


def test_split_groups_by_color_and_orders_by_key():
    def body(comm):
        group = comm.split(None if comm.rank == 4 else comm.rank % 2, key=-comm.rank)
        if group is None:
            return None
        with group:
            order = np.empty(group.world_size, np.int64)
            group.all_gather(order, np.array([comm.rank]))
            return group.rank, order.tolist()

    assert rt.run_local(5, body) == [(1, [2, 0]), (1, [3, 1]), (0, [2, 0]), (0, [3, 1]), None]


def test_a_closed_communicator_says_so():
    comm = rt.init()
    comm.close()
    comm.close()
    with pytest.raises(rt.InvalidArgument, match="rank 0, all_reduce: this communicator is closed"):
        comm.all_reduce(np.zeros(1))
    assert "closed" in repr(comm)


def test_wait_gives_up_but_the_call_goes_on():
    def body(comm):
        x = np.ones(4)
        if comm.rank == 0:
            work = comm.all_reduce(x, async_op=True)
            with pytest.raises(
                rt.Timeout, match=r"rank 0, all_reduce #1 .* was not finished within the 0.05 s"
            ):
                work.wait(timeout=0.05)
            comm.send(np.zeros(1), 1)
            work.wait()
        else:
            comm.recv(np.zeros(1), 0)
            comm.all_reduce(x)
        return x.tolist()

    assert rt.run_local(2, body) == [[2.0] * 4] * 2


def test_a_split_by_what_is_no_number_is_refused(alone):
    refused(alone, "color must be an integer of 64 bits, not 'red'", "split", "red")
    refused(alone, f"key must be an integer of 64 bits, not {2**63}", "split", 0, 2**63)


def test_groups_outlive_their_parent():
    def body(comm):
        group = comm.split(0)
        comm.close()
        x = np.ones(3)
        group.all_reduce(x)
        return x.tolist()

    assert rt.run_local(2, body) == [[2.0] * 3] * 2


def test_leaving_the_block_with_an_error_tells_the_others_why():
    def body(comm):
        if comm.rank == 0:
            with pytest.raises(KeyError), comm:
                raise KeyError("lost")
            assert comm.closed
        else:
            with pytest.raises(
                rt.Aborted, match="rank 0 aborted the communicator: KeyError: 'lost'"
            ) as caught:
                comm.barrier()
            assert caught.value.ranks == (0,)

    rt.run_local(2, body)


def test_a_group_may_have_a_timeout_of_its_own():
    def body(comm):
        refused(comm, "timeout=0 is no timeout", "split", 0, timeout=0)
        with comm.split(0) as same, comm.split(0, timeout=2.5) as other:
            return comm.timeout, same.timeout, other.timeout

    assert rt.run_local(2, body, timeout=30) == [(30, 30, 2.5)] * 2


def test_leaving_the_block_by_exit_only_closes():
    def body(comm):
        x = np.ones(3)
        if comm.rank == 0:
            comm.all_reduce(x, async_op=True)
            with pytest.raises(SystemExit), comm:
                sys.exit()
        else:
            comm.all_reduce(x)
        return x.tolist()

    assert rt.run_local(2, body) == [[2.0] * 3] * 2


def test_the_root_may_read_what_cannot_be_written_and_the_others_ignore_what_is_not_theirs():
    def body(comm):
        x, out = np.arange(2.0) + comm.rank, np.zeros(4)
        x.flags.writeable = comm.rank == 1
        comm.reduce(x, root=1)
        comm.gather(out if comm.rank == 1 else None, x, root=1)
        fixed = b"ab" if comm.rank == 0 else bytearray(2)
        comm.broadcast(fixed)
        return x.tolist(), out.tolist(), bytes(fixed)

    first, second = rt.run_local(2, body)
    assert first == ([0, 1], [0, 0, 0, 0], b"ab")
    assert second == ([1, 3], [0, 1, 1, 3], b"ab")
