"""The picture of a plan: predicted time against size, a line for each algorithm, and where they cross."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ringtree_bench.planning.crossovers import Crossover
from ringtree_bench.planning.measured import Check
from ringtree_bench.planning.units import format_time
from ringtree_bench.plot import OUR_COLOURS
from ringtree_bench.sizes import format_size

_LEAST_DISTANCE = 0.045  # between two labels, in heights of the panel
_CROSSOVER_COLOUR = "#777777"

Times = Mapping[int, Mapping[str, float]]  # [size][algorithm]: seconds


def draw_plan(
    times: Times,
    changes: Sequence[Crossover],
    measured: Sequence[Check],
    title: str,
    subtitle: str,
    path: Path,
) -> None:
    """Draw to `path`: PNG, SVG or PDF by its suffix.

    Args:
        times: predictions, for ascending sizes.
        changes: where the quickest algorithm changes.
        measured: points beside the lines; open ones are those that constants were fitted to.
        title: what is predicted.
        subtitle: for whom, with which constants.
        path: the file.
    """
    look: dict[Any, Any] = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}
    look |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "ringtree",
    }  # small, and the same plan gives the same file
    with matplotlib.rc_context(look):
        figure = Figure(figsize=(8.5, 5.2), layout="constrained")
        axes = figure.subplots()
        names = list(next(iter(times.values())))
        colours = dict(zip(names, OUR_COLOURS * len(names), strict=False))
        for name in names:
            axes.plot(list(times), [row[name] for row in times.values()], color=colours[name], linewidth=1.8)
        for check in measured:
            fill = "none" if check.fitted else colours[check.algorithm]
            axes.scatter(check.size, check.measured, 18, facecolors=fill, edgecolors=colours[check.algorithm])
        _scale(axes, list(times))
        _mark(axes, changes)
        _label_ends(axes, times[max(times)], colours)
        axes.set_title(title, loc="left", weight="bold")
        figure.suptitle(subtitle, x=0.01, ha="left", fontsize=9, color="#444444")
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _scale(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(sizes[0], sizes[-1])
    axes.set_xlabel("size")
    axes.set_ylabel("time, lower is better")
    ticks = [float(size) for size in sizes]
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / 7)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: format_size(int(size))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_time(seconds)))
    axes.grid(color="#DDDDDD", linewidth=0.6)


def _mark(axes: Axes, changes: Sequence[Crossover]) -> None:
    """A thin line where one algorithm overtakes another, with the size below it."""
    at_foot = axes.get_xaxis_transform()  # x in bytes, y in heights of the panel
    for index, change in enumerate(changes):
        axes.axvline(change.size, color=_CROSSOVER_COLOUR, linestyle=(0, (4, 2)), linewidth=1)
        text = axes.text(
            change.size,
            0.02 + 0.04 * (index % 2),
            f" {format_size(change.size)}",
            transform=at_foot,
            fontsize=8,
            color=_CROSSOVER_COLOUR,
        )
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _label_ends(axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Each line's name to the right of its end; neighbours make room for each other."""
    low, high = np.log(axes.get_ylim())
    order = sorted(ends, key=lambda name: ends[name])
    heights = spread_out(
        [float((np.log(ends[name]) - low) / (high - low)) for name in order], _LEAST_DISTANCE
    )
    for name, height in zip(order, heights, strict=True):
        axes.annotate(
            name, (1.0, height), xytext=(6, 0), xycoords="axes fraction", textcoords="offset points",
            va="center", color=colours[name], fontsize=9,
        )  # fmt: skip


def spread_out(heights: Sequence[float], distance: float) -> list[float]:
    """Ascending `heights`, none above 1, moved as little as needed to be `distance` apart."""
    groups: list[list[float]] = []  # labels that would touch each other are centred on their mean
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _foot(groups[-2], distance) + len(groups[-2]) * distance > _foot(
            groups[-1], distance
        ):
            last = groups.pop()
            groups[-1] += last
    return [_foot(group, distance) + index * distance for group in groups for index in range(len(group))]


def _foot(group: list[float], distance: float) -> float:
    """Where the lowest label of a group stands."""
    height = (len(group) - 1) * distance
    return min(sum(group) / len(group) - height / 2, 1 - height)
