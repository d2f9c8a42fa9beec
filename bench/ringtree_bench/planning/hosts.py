"""What each algorithm sends between hosts, and how many of its hand-overs cross from one to another.

Ranks are spread evenly and stand in order: rank r on host r // m, with m = n / H ranks on each of H hosts.
A host has one connection to the others, which all its ranks share; bytes are counted on the busiest host, in
its busier direction. Which formula an algorithm takes follows from whom its ranks talk to:

- *ring*: the neighbours. Of m links that follow one another, one leaves the host.
- *tree*: parent and children, as if each host were one node of the tree: its upper levels cross.
- *exchange*: the rank whose number differs in one bit. The upper log2 H bits cross, for all m ranks at once.
- *direct*: everybody. Each of m ranks sends something to each of n - m ranks elsewhere.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ringtree import _core


@dataclass(frozen=True)
class Spread:
    """One call of `size` bytes by `ranks` on `hosts`, and what the algorithm declares about it."""

    ranks: int
    hosts: int
    size: int
    cost: _core.Cost
    rounds: float  # how often the algorithm begins anew because a buffer does not fit a piece

    @property
    def each(self) -> int:
        """Ranks on one host."""
        return self.ranks // self.hosts

    @property
    def elsewhere(self) -> int:
        """Ranks on all other hosts."""
        return self.ranks - self.each


@dataclass(frozen=True)
class Crossing:
    """What leaves the busiest host: hand-overs that wait for each other, messages, bytes."""

    steps: float
    messages: float
    sent_bytes: float


Sent = Callable[[Spread], float]


def _ring(call: Spread) -> Crossing:
    crossing = call.cost.steps * call.hosts / call.ranks
    return Crossing(crossing, call.cost.steps, call.cost.bytes_per_link)


def _tree(copies: float) -> Callable[[Spread], Crossing]:
    """`copies` of the array leave an inner node of one tree, which is a leaf of the other."""

    def crossing(call: Spread) -> Crossing:
        levels = math.ceil(math.log2(call.hosts)) / math.ceil(math.log2(call.ranks))
        return Crossing(call.cost.steps * levels, 2 * copies * call.cost.steps, copies * call.size)

    return crossing


def _exchange(copies: Sent) -> Callable[[Spread], Crossing]:
    """Each rank sends so many copies of the array in the exchanges over the upper bits."""

    def crossing(call: Spread) -> Crossing:
        steps = call.cost.steps * math.log2(call.hosts) / math.log2(call.ranks)
        return Crossing(steps, call.each * steps, call.each * copies(call) * call.size)

    return crossing


def _direct(senders: Sent, sent_bytes: Sent) -> Callable[[Spread], Crossing]:
    """`senders` of a host send each rank elsewhere so many bytes; every hand-over crosses."""

    def crossing(call: Spread) -> Crossing:
        pairs = senders(call) * call.elsewhere
        return Crossing(call.cost.steps, pairs * call.rounds, pairs * sent_bytes(call))

    return crossing


def _pairwise(call: Spread) -> Crossing:
    pairs = call.each * call.elsewhere
    crossing = call.cost.steps * call.elsewhere / (call.ranks - 1)
    return Crossing(crossing, pairs * call.rounds, pairs * call.cost.bytes_per_link)


def _unknown(call: Spread) -> Crossing:
    """As much as an algorithm can be charged by what it declares: all ranks send, and every step crosses."""
    steps = call.cost.steps
    return Crossing(steps, call.each * steps, call.each * call.cost.bytes_per_link)


def _each(call: Spread) -> float:
    return call.each


def _root(call: Spread) -> float:
    return 1


def _link(call: Spread) -> float:
    return call.cost.bytes_per_link


def _share(call: Spread) -> float:
    return call.size / call.ranks


def _halves_up_to_hosts(call: Spread) -> float:
    return 1 - 1 / call.hosts  # 1/2 + 1/4 + ... + 1/H


_CROSSINGS: Mapping[tuple[str, str], Callable[[Spread], Crossing]] = {
    ("all_reduce", "ring"): _ring,
    ("all_reduce", "double_tree"): _tree(2),
    ("all_reduce", "recursive_doubling"): _exchange(lambda call: math.log2(call.hosts)),
    ("all_reduce", "halving_doubling"): _exchange(lambda call: 2 * _halves_up_to_hosts(call)),
    ("all_reduce", "one_shot"): _direct(_each, _link),
    ("all_reduce", "two_shot"): _direct(_each, _link),
    ("reduce", "ring"): _ring,
    ("reduce", "double_tree"): _tree(1),
    ("reduce", "one_shot"): _direct(_root, _link),
    ("broadcast", "ring"): _ring,
    ("broadcast", "double_tree"): _tree(1),
    ("broadcast", "one_shot"): _direct(_root, _link),
    ("broadcast", "two_shot"): _direct(lambda call: call.each + 1, _share),
    ("all_gather", "ring"): _ring,
    ("all_gather", "recursive_doubling"): _exchange(_halves_up_to_hosts),
    ("all_gather", "one_shot"): _direct(_each, _link),
    ("reduce_scatter", "ring"): _ring,
    ("reduce_scatter", "recursive_halving"): _exchange(_halves_up_to_hosts),
    ("reduce_scatter", "one_shot"): _direct(_each, _link),
    ("all_to_all", "one_shot"): _direct(_each, _link),
    ("all_to_all", "pairwise"): _pairwise,
    ("gather", "direct"): _direct(_root, _link),
    ("scatter", "direct"): _direct(_root, _link),
}


def crossing(collective: str, algorithm: str, call: Spread) -> Crossing:
    """What of this call leaves the busiest host; nothing on a single one."""
    if call.hosts == 1:
        return Crossing(0, 0, 0)
    return _CROSSINGS.get((collective, algorithm), _unknown)(call)
