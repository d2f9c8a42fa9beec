"""Whether a rival could be measured on this machine, for scripts that would spend minutes on it in vain.

    python -m ringtree_bench.gpu.rivals.ask nccl 2    for 2 ranks that share one GPU

Prints why not and ends with status 1, or prints nothing.
"""

import sys
from dataclasses import dataclass
from typing import Any

from ringtree_bench.gpu.rivals import PEERS


@dataclass(frozen=True)
class _Asker:
    """As much of a seat as the question takes."""

    sharing: int
    world: Any = None


def main(name: str, sharing: str) -> None:
    """Print the reason, if there is one."""
    asker: Any = _Asker(int(sharing))
    problem = PEERS[name].missing(asker)
    if problem:
        sys.exit(f"{name} is not measured: {problem}")


if __name__ == "__main__":
    main(*sys.argv[1:])
