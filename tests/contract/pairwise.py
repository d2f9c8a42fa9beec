"""Few cases in which every value of every axis still meets every value of every other axis."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Case = dict[str, Any]


def pairwise(
    axes: Mapping[str, Sequence[Any]], allowed: Callable[[Mapping[str, Any]], bool] = lambda case: True
) -> list[Case]:
    """A covering array, found greedily; the same each time.

    Args:
        axes: the values of each.
        allowed: whether values may stand in one case; asked about cases with some axes still missing.
    """
    missing = {
        ((one, a), (other, b)): None  # a dict, not a set: its order is fixed
        for one, other in combinations(axes, 2)
        for a, b in product(axes[one], axes[other])
        if allowed({one: a, other: b})
    }
    cases = []
    while missing:
        case: Case = dict(next(iter(missing)))
        for axis in axes:
            if axis not in case:
                candidates = [value for value in axes[axis] if allowed({**case, axis: value})]
                case[axis] = max(candidates, key=lambda value: _news(case, axis, value, axes, missing))
        cases.append(case)
        for pair in _pairs(case, axes):
            missing.pop(pair, None)
    return cases


def _pairs(case: Case, axes: Mapping[str, Sequence[Any]]) -> list[tuple[tuple[str, Any], tuple[str, Any]]]:
    present = [(axis, case[axis]) for axis in axes if axis in case]
    return list(combinations(present, 2))


def _news(
    case: Case, axis: str, value: Any, axes: Mapping[str, Sequence[Any]], missing: Mapping[Any, None]
) -> int:
    return sum(pair in missing for pair in _pairs({**case, axis: value}, axes) if (axis, value) in pair)
