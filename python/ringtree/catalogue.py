"""What the core offers, by the names that users give: element types, operations, collectives, algorithms."""

from dataclasses import dataclass

from ringtree import _core
from ringtree._core import COLLECTIVES, DTYPES, OPS, TRANSPORTS
from ringtree.errors import InvalidArgument

__all__ = [
    "COLLECTIVES",
    "DTYPES",
    "OPS",
    "TRANSPORTS",
    "ZERO_COPY",
    "Op",
    "PremulSum",
    "algorithms",
    "op_code",
    "premul_sum",
]

ZERO_COPY = "zero_copy"  # the algorithm of most collectives for arrays of `Communicator.empty`


def algorithms(collective: str) -> list[str]:
    """Names that `algorithm=` takes for arrays in any memory; beside these there is `rt.ZERO_COPY`.

    Args:
        collective: one of `rt.COLLECTIVES`.

    Raises:
        InvalidArgument: there is no such collective; names those there are.
    """
    return [name for name in _core.algorithms(collective) if name != ZERO_COPY]


_PLAIN_OPS = {name: (code, 1.0) for code, name in enumerate(OPS)}
_PREMUL_SUM, _ = _PLAIN_OPS.pop("premul_sum")  # says nothing without a factor


@dataclass(frozen=True, slots=True)
class PremulSum:
    """The sum in which this rank's contribution counts `factor` times; each rank may have its own factor."""

    factor: float


def premul_sum(factor: float) -> PremulSum:
    """To be given as `op=`: the sum of factor * x, for float types. Each rank may have its own factor."""
    return PremulSum(float(factor))


Op = str | PremulSum


def op_code(op: Op) -> tuple[int, float]:
    """The core's code of `op`, and its factor.

    Raises:
        InvalidArgument: there is no such operation.
    """
    try:
        return _PLAIN_OPS[op]  # type: ignore[index]
    except (KeyError, TypeError):
        pass
    if isinstance(op, PremulSum):
        return _PREMUL_SUM, op.factor
    if op == "premul_sum":
        raise InvalidArgument("op 'premul_sum' needs a factor: pass op=rt.premul_sum(factor)")
    raise InvalidArgument(
        f"there is no op {op!r}; there are {', '.join(_PLAIN_OPS)} and rt.premul_sum(factor)"
    )
