"""What hand-overs and bytes cost inside a host: the numbers that turn a declared cost into a time."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ringtree import _core

VERSION = 1


@dataclass(frozen=True)
class Constants:
    """Inside a host, time = call + steps * step + factor * moved bytes / bandwidth, in seconds.

    `bandwidth` holds bytes per second that one rank reads plus writes, by the size of the array: small arrays
    live in a cache. Between two of its sizes it is interpolated, both on logarithmic scales; beyond, the
    nearest holds. `factors` say by how much an algorithm's bytes cost more than the average's.
    """

    step: float
    bandwidth: Mapping[int, float]
    call: float = 0.0
    factors: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def bandwidth_at(self, size: int) -> float:
        """Bytes per second for an array of `size` bytes."""
        known = sorted(self.bandwidth)
        rates = [np.log(self.bandwidth[at]) for at in known]
        return float(np.exp(np.interp(np.log(max(size, 1)), np.log(known), rates)))

    def seconds(self, algorithm: str, size: int, cost: _core.Cost) -> float:
        """Time of a call of this declared cost on an array of `size` bytes."""
        return self.call + cost.steps * self.step + self.moving_seconds(algorithm, size, cost)

    def moving_seconds(self, algorithm: str, size: int, cost: _core.Cost) -> float:
        """The share that the busiest rank's reading and writing has in that time."""
        return self.factors.get(algorithm, 1.0) * cost.moved_bytes / self.bandwidth_at(size)


def built_in(shared_cores: bool = False) -> Constants:
    """Those by which `algorithm="auto"` chooses: measured over shared memory, one bandwidth for all sizes."""
    step_us, bytes_per_us = _core.step_constants(shared_cores)
    where = "ranks that outnumber the cores" if shared_cores else "a core for each rank"
    return Constants(step_us * 1e-6, {1: bytes_per_us * 1e6}, source=f"built in, for {where}")


def write_constants(path: Path, constants: Constants, **about: Any) -> None:
    """Write `constants`, and what `about` says of where they come from, as JSON."""
    document = {"version": VERSION, **about, **asdict(constants)}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_constants(path: Path) -> Constants:
    """What `write_constants` has written.

    Raises:
        ValueError: the file cannot be read, or holds something else; names it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] != VERSION:
            raise ValueError(f"version {found['version']} is not {VERSION}")
        constants = Constants(
            step=float(found["step"]),
            bandwidth={int(size): float(rate) for size, rate in found["bandwidth"].items()},
            call=float(found["call"]),
            factors={str(name): float(factor) for name, factor in found["factors"].items()},
            source=str(found["source"]),
        )
        if not constants.bandwidth or min(constants.bandwidth.values()) <= 0:
            raise ValueError("there is no bandwidth")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} holds no constants of ringtree plan --save ({reason})") from None
    return constants
