"""Reduction operations as the user names them."""

from dataclasses import dataclass

from ringtree._core import OPS
from ringtree.errors import InvalidArgument

_CODES = {name: code for code, name in enumerate(OPS)}
_PREMUL_SUM = _CODES["premul_sum"]


@dataclass(frozen=True, slots=True)
class PremulSum:
    """A sum in which this rank's contribution is multiplied by `factor` first."""

    factor: float


def premul_sum(factor: float) -> PremulSum:
    """The operation "sum of factor * x", to be given as `op=`; each rank may have its own factor."""
    return PremulSum(float(factor))


Op = str | PremulSum


def op_code(op: Op) -> tuple[int, float]:
    """The core's code of `op`, and its factor.

    Raises:
        InvalidArgument: there is no such operation.
    """
    if isinstance(op, PremulSum):
        return _PREMUL_SUM, op.factor
    code = _CODES.get(op)
    if code is None:
        raise InvalidArgument(f"unknown op {op!r}; there are {', '.join(OPS)}")
    if code == _PREMUL_SUM:
        raise InvalidArgument("op 'premul_sum' needs a factor: pass op=ringtree.premul_sum(factor)")
    return code, 1.0
