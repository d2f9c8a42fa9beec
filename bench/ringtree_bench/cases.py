"""A case: one collective on one amount of data, the thing that one row of the table measures."""

from collections.abc import Iterable
from dataclasses import dataclass

from ringtree_bench import dtypes
from ringtree_bench.collectives import COLLECTIVES, Collective


@dataclass(frozen=True)
class Case:
    """One measured row.

    `parts` are the counts of the calls that one measurement makes, one after the other on neighbouring pieces
    of the array: a single one for a message size, all gradient buckets for a model.
    """

    collective: Collective
    world: int
    dtype: str
    op: str
    parts: tuple[int, ...]
    label: str = ""

    @property
    def count(self) -> int:
        """Elements, as nccl-tests counts them for this collective."""
        return sum(self.parts)

    @property
    def kind(self) -> str:
        """What is done, whatever the size."""
        return f"{self.collective.name}{'' if self.op == 'none' else f' {self.op}'} of {self.dtype}"

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole array; all_to_all and the like divide it among the ranks."""
        ranks = self.world if self.collective.shared else 1
        return self.count * ranks * dtypes.item_bytes(self.dtype)

    @property
    def chooser_bytes(self) -> int:
        """The bytes by which the library chooses an algorithm: for all_to_all those of all ranks together."""
        return self.size_bytes * (self.world if self.collective.name == "all_to_all" else 1)

    @property
    def input_elements(self) -> int:
        """Elements that each rank gives."""
        return self.count * self.collective.sends(self.world)

    @property
    def output_elements(self) -> int:
        """Elements that each rank gets in a second array; 0 when the result replaces the input."""
        return self.count * self.collective.receives(self.world)

    @property
    def least_traffic_bytes(self) -> float:
        """Bytes that all ranks together must at least read and write; a world of one has nothing to do."""
        reads, writes = self.collective.reads(self.world), self.collective.writes(self.world)
        return self.size_bytes * (reads + writes) if self.world > 1 else 0.0

    def bus_bandwidth(self, seconds: float) -> float:
        """GB/s as nccl-tests defines busbw."""
        return self.algorithm_bandwidth(seconds) * self.collective.bus_factor(self.world)

    def algorithm_bandwidth(self, seconds: float) -> float:
        """GB/s as nccl-tests defines algbw: size over time."""
        return self.size_bytes / seconds / 1e9


def cases_of_sizes(collective: str, sizes: Iterable[int], dtype: str, op: str, world: int) -> list[Case]:
    """A case for each size, rounded down to whole elements (and equal shares), without doubles or zeros."""
    what = COLLECTIVES[collective]
    unit = dtypes.item_bytes(dtype) * (world if what.shared else 1)
    counts = sorted({size // unit for size in sizes} - {0})
    return [Case(what, world, dtype, op if what.reduces else "none", (count,)) for count in counts]
