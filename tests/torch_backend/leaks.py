"""10,000 groups made and destroyed, 1,000,000 small all_reduces: what a process holds stays as it was.

Part of `make test-torch`; takes a few minutes.
"""

import gc
import os
import socket
import threading
from pathlib import Path

import torch
import torch.distributed as dist
from torch_backend.ranks import TorchRanks

GROUPS, CALLS = 10_000, 1_000_000
WARM_UP = 0.1  # of each, before the first look
GROWTH_BYTES = 8 << 20  # c10d itself remembers names


def holdings() -> tuple[int, int, int]:
    """Bytes of private memory, descriptors, threads."""
    gc.collect()
    private = next(line for line in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in line)
    return int(private.split()[1]) << 10, len(os.listdir("/proc/self/fd")), threading.active_count()


def make_groups(count: int) -> None:
    for _ in range(count):
        group = dist.new_group()
        dist.all_reduce(torch.ones(1), group=group)
        dist.destroy_process_group(group)


def make_calls(count: int) -> None:
    x = torch.zeros(2)
    for i in range(count):
        work = dist.all_reduce(x, async_op=i % 4 == 0)
        if work is not None:
            work.wait()


def grow(port: int) -> dict[str, tuple[int, int, int]]:
    # Not in a file, which would keep every key of every group.
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("ringtree", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    grown = {}
    for name, make, count in (("groups", make_groups, GROUPS), ("calls", make_calls, CALLS)):
        make(int(WARM_UP * count))
        before = holdings()
        make(int((1 - WARM_UP) * count))
        after = holdings()
        dist.barrier()  # rank 0 serves the store, and closes what a rank that ends has closed
        grown[name] = (after[0] - before[0], after[1] - before[1], after[2] - before[2])
    return grown


def main() -> None:
    names = {name for name in os.listdir("/dev/shm") if name.startswith("ringtree-")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TorchRanks(2, grow, port, join=False) as ranks:
        for rank, outcome in enumerate(ranks.outcomes(3600)):
            for what, (memory, descriptors, threads) in outcome.result().items():
                print(
                    f"rank {rank}, {what}: memory {memory / 1e6:+.1f} MB, descriptors {descriptors:+d}, "
                    f"threads {threads:+d}",
                    flush=True,
                )
                assert memory < GROWTH_BYTES
                assert descriptors == threads == 0
    assert not [name for name in os.listdir("/dev/shm") if name.startswith("ringtree-") and name not in names]
    print("nothing left behind")


if __name__ == "__main__":
    main()
