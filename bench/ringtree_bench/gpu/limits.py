"""What the GPU allows, measured in the same run: its copies, an empty kernel, a flag's round trip.

They are measured before the rows and behind them, each time on a GPU that has been copying for a moment: one
that was idle has not raised its clocks yet, and is too low a ceiling. What is said of rows in the end is said
by the stricter of both: the quicker copies, the shorter times.

A copy of S bytes on the device reads S and writes S. A collective is held against it by the bytes that it
must at least read and write: an all-reduce of S over n ranks reads n S and writes n S, as a copy of n S does.
For small sizes time is latency: no call is quicker than an empty kernel, from its launch to the end of the
synchronisation behind it, and none in which ranks hear of each other is quicker than that and a round trip.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ringtree import _core
from ringtree.buffers import STREAM_OF_THREAD

from ringtree_bench.cases import Case
from ringtree_bench.gpu.seats import Seat
from ringtree_bench.sizes import format_size

_SMALLEST_BYTES, _LARGEST_BYTES = 1 << 20, 1 << 30
_REPEATS = 7
_SAMPLE_BYTES = 256 << 20  # small copies are repeated up to this many bytes, at most so often:
_MOST_COPIES = 50
_LAUNCHES = 100
_FEW_TRIPS, _TRIPS = 10, 1000
_MOMENT = 0.03  # seconds
WARM_UP = 0.3  # seconds of copies, in which clocks rise


@dataclass(frozen=True)
class Limits:
    """Rates in bytes per second, times in seconds."""

    copies: dict[int, float]  # [bytes]: bytes copied; each is read and written
    empty_kernel: float  # from its launch to the end of the synchronisation
    empty_kernel_in_a_row: float  # one of many
    round_trip: float  # of a flag between two blocks

    @property
    def floor(self) -> float:
        """Seconds below which no call can be in which ranks wait for one another."""
        return self.empty_kernel + self.round_trip

    def copy_share(self, moved_bytes: float, seconds: float) -> float:
        """The rate at which so many bytes are read and written, as a share of a copy's of as many."""
        nearest = min(self.copies, key=lambda size: abs(np.log(size * 2 / max(moved_bytes, 1))))
        return moved_bytes / 2 / seconds / self.copies[nearest]

    def stricter(self, other: "Limits | None") -> "Limits":
        """The higher rates and the shorter times of both; `other` has the same sizes."""
        if other is None:
            return self
        return Limits(
            {size: max(rate, other.copies[size]) for size, rate in self.copies.items()},
            min(self.empty_kernel, other.empty_kernel),
            min(self.empty_kernel_in_a_row, other.empty_kernel_in_a_row),
            min(self.round_trip, other.round_trip),
        )

    def lines(self) -> list[str]:
        """The lines above the table."""
        rates = ", ".join(
            f"{format_size(size)} {2 * self.copies[size] / 1e9:.0f} GB/s"
            for size in sorted({min(self.copies), max(self.copies)})
        )
        return [
            f"copies on the device, bytes read plus written: {rates}",
            f"an empty kernel {self.empty_kernel * 1e6:.2f} us from launch to end, "
            f"{self.empty_kernel_in_a_row * 1e6:.2f} us in a row; "
            f"a flag's round trip between two blocks {self.round_trip * 1e6:.2f} us",
        ]


def measure_limits(seat: Seat, cases: list[Case], warm_up: float = WARM_UP) -> Limits:
    """By the first seat, while the others wait; a collective. `warm_up`: seconds."""
    found = _measure(cases, warm_up) if seat.world.is_first else None
    limits: Limits = seat.world.agree(found)
    return limits


def _measure(cases: list[Case], warm_up: float) -> Limits:
    wanted = (case.least_traffic_bytes / 2 for case in cases)
    sizes = sorted({int(min(max(_SMALLEST_BYTES, size), _LARGEST_BYTES)) for size in wanted})
    # neighbours within a factor of two have one rate
    sizes = [size for place, size in enumerate(sizes) if place == 0 or size >= 2 * sizes[place - 1]]
    source, target = (_core.gpu_allocate(sizes[-1]) for _ in range(2))

    def copy(size: int) -> None:
        _core.gpu_enqueue_copy(target.address, source.address, size, STREAM_OF_THREAD)

    def launch() -> None:
        _core.gpu_launch_empty(STREAM_OF_THREAD)

    def copy_rate(size: int) -> float:
        turns = min(max(1, _SAMPLE_BYTES // size), _MOST_COPIES)
        return size / _on_gpu(lambda: copy(size), turns)

    until = time.perf_counter() + warm_up
    while time.perf_counter() < until:
        copy(sizes[-1])
        _core.gpu_synchronize(STREAM_OF_THREAD)
    return Limits(
        {size: copy_rate(size) for size in sizes},
        _alone(launch),
        _on_gpu(launch, _LAUNCHES),
        _round_trip(),
    )


def _round_trip() -> float:
    """Seconds. As many as take a moment here: the GPU gives up on a series that takes ten seconds."""

    def difference(count: int) -> float:
        """Of one in a kernel of `count`, whose launch is not counted."""
        took = [
            [_core.gpu_round_trips(each, STREAM_OF_THREAD) for each in (1, count)] for _ in range(_REPEATS)
        ]
        alone, together = np.median(took, axis=0)
        return max(0.0, float(together - alone)) / (count - 1)

    return difference(max(_FEW_TRIPS, int(min(_TRIPS, _MOMENT / max(difference(_FEW_TRIPS), 1e-9)))))


def _on_gpu(enqueue: Callable[[], None], turns: int) -> float:
    """Seconds of one of `turns` in a row, by the GPU's clock."""
    timer = _core.GpuTimer()
    times = []
    for _ in range(_REPEATS):
        timer.start(STREAM_OF_THREAD)
        for _ in range(turns):
            enqueue()
        timer.stop(STREAM_OF_THREAD)
        times.append(timer.seconds / turns)
    return float(np.median(times))


def _alone(enqueue: Callable[[], None]) -> float:
    """Seconds from the call to the end of the synchronisation behind it, by the host's clock."""
    times = []
    for _ in range(_LAUNCHES):
        start = time.perf_counter()
        enqueue()
        _core.gpu_synchronize(STREAM_OF_THREAD)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
