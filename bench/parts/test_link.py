"""One link hand-over: 8 bytes to another rank and back, both ranks being threads of this process."""

import numpy as np
import ringtree as rt
from pytest_benchmark.fixture import BenchmarkFixture

STOP = -1.0


def test_round_trip_of_8_bytes(benchmark: BenchmarkFixture) -> None:
    """The time is of two hand-overs; the interpreter lock, which threads share, is in it."""

    def ping(comm: rt.Communicator) -> None:
        x = np.zeros(1)

        def trip() -> None:
            comm.send(x, 1)
            comm.recv(x, 1)

        benchmark.pedantic(trip, rounds=50, iterations=100, warmup_rounds=2)
        assert x[0] >= 1
        x[0] = STOP
        comm.send(x, 1)

    def pong(comm: rt.Communicator) -> None:
        x = np.zeros(1)
        comm.recv(x, 0)
        while x[0] != STOP:
            x += 1
            comm.send(x, 0)
            comm.recv(x, 0)

    rt.run_local(2, lambda comm: ping(comm) if comm.rank == 0 else pong(comm))
