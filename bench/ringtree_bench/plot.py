"""The picture of a run: time and bus bandwidth against size, every rival, and the memory limit as a line."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ringtree_bench.record import Document
from ringtree_bench.sizes import format_size

FORMATS = (".png", ".svg", ".pdf")

# Okabe and Ito's palette, told apart by colour-blind readers too; shapes tell the lines apart in grey.
_PEER_LOOKS = {
    "gloo": ("#D55E00", "s"),
    "mpi": ("#009E73", "^"),
    "nccl": ("#CC79A7", "v"),
    "impi-rt": ("#882255", "v"),
    "mpich": ("#999933", "<"),
    "openmpi": ("#44AA99", ">"),
}
_OTHER_PEER = ("#E69F00", "D")
OUR_COLOURS = ("#0072B2", "#56B4E9", "#000000", "#CC79A7", "#E69F00", "#882255", "#999933", "#332288")
_LIMIT_COLOUR = "#777777"
_LIMIT_LABEL = "memory limit"
_MARKERS = "oPXd*phH"

Scale = Callable[[Document, float], float]  # from seconds to what a panel shows


def draw(run: Document, path: Path) -> None:
    """Draw `run`, a record, to `path`: PNG, SVG or PDF by its suffix; a row of panels for each collective.

    Raises:
        ValueError: no row of the run has a time.
    """
    names = list(dict.fromkeys(row["collective"] for row in _timed(run["rows"])))
    if not names:
        raise ValueError("nothing was measured, so there is nothing to draw")
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13.5, 0.9 + 4.1 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 2, squeeze=False)
        for name, (left, right) in zip(names, panels, strict=True):
            rows = [row for row in _timed(run["rows"]) if row["collective"] == name]
            draw_rows = _draw_mix if rows[0]["label"] else _draw_sizes
            draw_rows(left, right, rows)
            left.set_title(f"{name}, {rows[0]['dtype']}" + _operation(rows[0]), loc="left", weight="bold")
        machine = run["machine"]
        figure.suptitle(
            f"{run['world']} ranks over {run['transport']} on {machine['cpu']} ({machine['cores']} cores), "
            f"{run['date'][:10]}, ringtree {run['versions']['ringtree']}"
            + ("\nbeside " if run["peers"] else "")
            + ", ".join(f"{peer} ({version})" for peer, version in run["peers"].items()),
            x=0.01, ha="left", fontsize=9, color="#444444",
        )  # fmt: skip
        figure.savefig(path, dpi=150)


def looks_of(contender: str) -> tuple[str, str]:
    """Colour and marker of a peer, or of ringtree's own choice."""
    if contender == "ringtree":
        return OUR_COLOURS[0], _MARKERS[0]
    return _PEER_LOOKS.get(contender, _OTHER_PEER)


def _timed(rows: list[Document]) -> Iterator[Document]:
    return (row for row in rows if row["ringtree"])


def _operation(row: Document) -> str:
    return "" if row["op"] == "none" else f", {row['op']}"


def _lines(rows: list[Document]) -> Iterator[tuple[str, str, str, list[tuple[Document, Document]]]]:
    """Label, colour, marker and (row, timing) pairs of every line: peers first, ringtree above them."""
    for peer in rows[0]["peers"]:
        colour, marker = looks_of(peer)
        by_size = {row["size"]: (row, row["peers"][peer]) for row in rows if row["peers"][peer]}
        if by_size:
            yield peer, colour, marker, list(by_size.values())
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    for index, algorithm in enumerate(algorithms):
        label = "ringtree" if algorithm == "auto" else f"ringtree {algorithm}"
        pairs = [(row, row["ringtree"]) for row in rows if row["algorithm"] == algorithm]
        yield label, OUR_COLOURS[index % len(OUR_COLOURS)], _MARKERS[index % len(_MARKERS)], pairs


def _panels(left: Axes, right: Axes, rows: list[Document], time: Scale) -> list[tuple[Axes, Scale]]:
    """Time on the left, bus bandwidth on the right, if there is any: a world of one uses no bus."""
    if rows[0]["bus_factor"]:
        return [(left, time), (right, _bus_gigabytes)]
    right.set_visible(False)
    return [(left, time)]


def _draw_sizes(left: Axes, right: Axes, rows: list[Document]) -> None:
    """A line for each contender, in a band from the 10th to the 90th percentile."""
    panels = _panels(left, right, rows, _microseconds)
    for label, colour, marker, pairs in _lines(rows):
        sizes = [row["size"] for row, _ in pairs]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.6}
        for axes, scale in panels:
            axes.plot(sizes, [scale(row, timing["median"]) for row, timing in pairs], label=label, **look)
            low, high = ([scale(row, timing[edge]) for row, timing in pairs] for edge in ("p10", "p90"))
            axes.fill_between(sizes, low, high, color=colour, alpha=0.12, linewidth=0)
    limited = list({row["size"]: row for row in rows if row["ideal"]}.values())
    fastest = min(timing["median"] for _, _, _, pairs in _lines(rows) for _, timing in pairs)
    for axes, scale in panels:
        seen = [row for row in limited if axes is right or row["ideal"] > fastest / 4]
        axes.plot(
            [row["size"] for row in seen], [scale(row, row["ideal"]) for row in seen],
            color=_LIMIT_COLOUR, linestyle=(0, (4, 2)), linewidth=1.4, label=_LIMIT_LABEL,
        )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("size")
        ticks = sorted({float(row["size"]) for row in rows})
        axes.xaxis.set_major_locator(FixedLocator(ticks[:: math.ceil(len(ticks) / 7)]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: format_size(int(size))))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(color="#DDDDDD", linewidth=0.6)
    left.set_ylabel("time (us), lower is better")
    right.set_ylabel("busbw (GB/s), higher is better")
    _add_legend(panels[-1][0])


def _draw_mix(left: Axes, right: Axes, rows: list[Document]) -> None:
    """One group of bars a model: time of a step on the left, bus bandwidth on the right."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    lines = list(_lines(rows))
    panels = _panels(left, right, rows, _milliseconds)
    width = 0.8 / len(lines)
    for index, (label, colour, _, pairs) in enumerate(lines):
        where = [labels.index(row["label"]) + (index - (len(lines) - 1) / 2) * width for row, _ in pairs]
        for axes, scale in panels:
            heights = [scale(row, timing["median"]) for row, timing in pairs]
            bars = axes.bar(where, heights, width * 0.92, color=colour, label=label)
            for text in axes.bar_label(bars, fmt="%.3g", fontsize=8, padding=2):
                text.set_path_effects([withStroke(linewidth=3, foreground="white")])
    for axes, scale in panels:
        for place, label in enumerate(labels):
            row = next(row for row in rows if row["label"] == label)
            if row["ideal"]:
                axes.hlines(
                    scale(row, row["ideal"]), place - 0.45, place + 0.45,
                    color=_LIMIT_COLOUR, linestyle=(0, (4, 2)), label="" if place else _LIMIT_LABEL,
                )  # fmt: skip
        axes.set_xticks(range(len(labels)), labels)
    left.set_ylabel("time of a step (ms), lower is better")
    right.set_ylabel("busbw (GB/s), higher is better")
    _add_legend(panels[-1][0])


def _add_legend(axes: Axes) -> None:
    """Beside the last panel, where it hides no data."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _microseconds(row: Document, seconds: float) -> float:
    return seconds * 1e6


def _milliseconds(row: Document, seconds: float) -> float:
    return seconds * 1e3


def _bus_gigabytes(row: Document, seconds: float) -> float:
    return float(row["size"] * row["bus_factor"] / seconds / 1e9)
