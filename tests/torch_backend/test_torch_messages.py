"""send and recv: tags, any source, batches, and what happens to messages that nobody has asked for."""

import pytest
import torch
import torch.distributed as dist
from torch_backend.ranks import run_ranks


def in_any_order() -> None:
    """Rank 0 sends by ascending tags, rank 1 receives by descending ones."""
    if dist.get_rank() == 0:
        for tag in range(10):
            dist.send(torch.full((tag * 1000,), float(tag)), 1, tag=tag)
    else:
        for tag in reversed(range(10)):
            x = torch.empty(tag * 1000)
            assert dist.recv(x, 0, tag=tag) == 0
            assert (x == tag).all()
    dist.barrier()


def test_tags_are_matched_in_any_order() -> None:
    run_ranks(2, in_any_order)


def in_order_within_a_tag() -> None:
    if dist.get_rank() == 0:
        for number in range(50):
            dist.send(torch.tensor([number]), 1, tag=number % 2)
    else:
        for tag in (1, 0):
            for number in range(tag, 50, 2):
                x = torch.empty(1, dtype=torch.int64)
                dist.recv(x, 0, tag=tag)
                assert x.item() == number
    dist.barrier()


def test_messages_of_one_tag_keep_their_order() -> None:
    run_ranks(2, in_order_within_a_tag)


def from_anybody() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    if rank == 0:
        for round in range(20):
            seen = set()
            for _ in range(n - 1):
                x = torch.empty(2)
                source = dist.recv(x, tag=round)
                assert x.tolist() == [source, round]
                seen.add(source)
            assert seen == set(range(1, n))
    else:
        for round in range(20):
            dist.send(torch.tensor([float(rank), float(round)]), 0, tag=round)
    # Who was asked for a message in vain is not waited for, and may leave.
    if rank == 1:
        dist.send(torch.ones(1), 0, tag=99)
    if rank == 0:
        dist.recv(torch.empty(1), tag=99)


@pytest.mark.parametrize("world", [2, 3])
def test_receiving_from_any_source(world: int) -> None:
    run_ranks(world, from_anybody)


def around_the_ring() -> None:
    n, rank = dist.get_world_size(), dist.get_rank()
    for count in (1, 100_000, 3_000_000):
        sent, received = torch.full((count,), float(rank)), torch.empty(count)
        works = dist.batch_isend_irecv(
            [
                dist.P2POp(dist.isend, sent, (rank + 1) % n),
                dist.P2POp(dist.irecv, received, (rank - 1) % n),
            ]
        )
        for work in works:
            work.wait()
        assert (received == (rank - 1) % n).all()


@pytest.mark.parametrize("world", [2, 3])
def test_batches_do_not_depend_on_the_order_of_ranks(world: int) -> None:
    run_ranks(world, around_the_ring)


def beside_collectives() -> None:
    """What is waited for last is begun first."""
    rank = dist.get_rank()
    x = torch.empty(1000)
    waiting = dist.irecv(x, 1 - rank)
    for _ in range(10):
        dist.all_reduce(torch.ones(1000))
    assert not waiting.is_completed()
    dist.barrier()
    dist.isend(torch.full((1000,), float(rank)), 1 - rank).wait()
    waiting.wait()
    assert (x == 1 - rank).all()


def test_messages_are_under_way_beside_collectives() -> None:
    run_ranks(2, beside_collectives)


def too_large() -> str:
    if dist.get_rank() == 0:
        dist.send(torch.ones(10), 1)
        dist.send(torch.ones(5), 1)
        return ""
    with pytest.raises(dist.DistBackendError) as raised:
        dist.recv(torch.empty(5), 0)
    dist.recv(torch.empty(5), 0)
    return str(raised.value)


def test_a_message_that_is_too_large_is_an_error_and_the_next_one_is_not() -> None:
    _, text = run_ranks(2, too_large)
    assert "rank 0 sent 40 bytes, and the tensor to receive them has 20" in text


def forgotten() -> None:
    """A receive that nobody answers does not keep a rank from leaving."""
    waiting = dist.irecv(torch.empty(1), 1 - dist.get_rank())
    dist.barrier()
    dist.destroy_process_group()
    with pytest.raises(dist.DistBackendError, match="was destroyed while it waited"):
        waiting.wait()


def test_a_group_can_be_destroyed_while_it_waits_for_a_message() -> None:
    run_ranks(2, forgotten)
