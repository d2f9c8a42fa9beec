"""`ringtree growth`: how time grows with the number of ranks, from the records of several runs."""

import json
import math
from pathlib import Path
from typing import Any

import click
import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ringtree_bench.plot import FORMATS, looks_of
from ringtree_bench.record import Document
from ringtree_bench.sizes import format_size, parse_sizes

_EXAMPLES = """\b
Example:
  for n in 2 3 4 6 8; do mpirun -n $n ringtree bench --sizes 8,64K,1M,64M --json runs.jsonl; done
  ringtree growth runs.jsonl growth.svg
"""

# [size][contender][world]: seconds, and the same at the 10th and the 90th percentile
Times = dict[int, dict[str, dict[int, tuple[float, float, float]]]]


@click.command(epilog=_EXAMPLES)
@click.argument("runs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("plot", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--collective", default="all_reduce", show_default=True, help="The one to draw.")
@click.option("--sizes", help="Which of the sizes measured, as for bench; by default up to four of them.")
def growth(runs: Path, plot: Path, collective: str, sizes: str | None) -> None:
    """Draw time against the number of ranks: RUNS is what `bench --json RUNS.jsonl` has appended.

    Of several runs with one number of ranks the last counts. Ranks beyond the cores, marked in the drawing,
    have to take turns.
    """
    if plot.suffix not in FORMATS:
        raise click.ClickException(f"{plot}: the name must end in {', '.join(FORMATS)}")
    records = [json.loads(line) for line in runs.read_text(encoding="utf-8").splitlines()]
    times = times_of(records, collective)
    if not times:
        raise click.ClickException(f"{runs} has no run of {collective}")
    wanted = [size for size in parse_sizes(sizes) if size in times] if sizes else spread_out(sorted(times))
    if not wanted:
        raise click.ClickException(f"{runs} has none of the sizes {sizes}")
    draw_growth({size: times[size] for size in wanted}, records[-1], collective, plot)
    click.echo(f"written to {plot}")


def times_of(records: list[Document], collective: str) -> Times:
    """What the records say of `collective`, by size, contender and world; of ringtree, only "auto"."""
    times: Times = {}
    for record in records:
        for row in record["rows"]:
            if row["collective"] != collective or row["algorithm"] != "auto":
                continue
            for name, timing in {**row["peers"], "ringtree": row["ringtree"]}.items():
                if timing:
                    found = timing["median"], timing["p10"], timing["p90"]
                    times.setdefault(row["size"], {}).setdefault(name, {})[record["world"]] = found
    return times


def spread_out(sizes: list[int], most: int = 4) -> list[int]:
    """The first, the last and some between."""
    if len(sizes) <= most:
        return sizes
    return [sizes[round(index * (len(sizes) - 1) / (most - 1))] for index in range(most)]


def draw_growth(times: Times, record: Document, collective: str, path: Path) -> None:
    """A panel for each size, a line for each contender."""
    columns = min(len(times), 2)
    rows = math.ceil(len(times) / columns)
    with matplotlib.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(1.5 + 5.5 * columns, 0.9 + 3.4 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for axes, (size, contenders) in zip(panels, times.items(), strict=False):
            _draw_size(axes, contenders, record["machine"]["usable_cores"])
            bytes_text = f"{size} B" if size < 1024 else f"{format_size(size)[:-1]} {format_size(size)[-1]}iB"
            axes.set_title(f"{collective}, {bytes_text}", loc="left", weight="bold")
        for axes in list(panels)[len(times) :]:
            axes.set_visible(False)
        machine = record["machine"]
        figure.suptitle(
            f"{record['transport']} on {machine['cpu']} ({machine['cores']} cores), {record['date'][:10]}, "
            f"ringtree {record['versions']['ringtree']}"
            + "".join(f", {peer}: {version}" for peer, version in record["peers"].items()),
            x=0.01, ha="left", fontsize=9, color="#444444",
        )  # fmt: skip
        figure.axes[columns - 1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
        figure.savefig(path, dpi=150)


def _draw_size(axes: Axes, contenders: dict[str, dict[int, tuple[float, float, float]]], cores: int) -> None:
    worlds = sorted({world for found in contenders.values() for world in found})
    for name, found in contenders.items():
        colour, marker = looks_of(name)
        ranks = sorted(found)
        middle, low, high = ([found[world][which] * 1e6 for world in ranks] for which in range(3))
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.6}
        axes.plot(ranks, middle, label=name, **look)
        axes.fill_between(ranks, low, high, color=colour, alpha=0.12, linewidth=0)
    if worlds[0] < cores < worlds[-1]:
        axes.axvline(cores, color="#777777", linestyle=(0, (4, 2)), linewidth=1)
        beside = axes.get_xaxis_transform()  # x in ranks, y in shares of the panel
        axes.text(
            cores + 0.1, 0.98, "all cores taken", transform=beside, va="top", fontsize=8, color="#777777"
        )
    axes.set_yscale("log")
    axes.set_xlabel("ranks")
    axes.set_ylabel("time (us), lower is better")
    axes.xaxis.set_major_locator(FixedLocator([float(world) for world in worlds]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color="#DDDDDD", linewidth=0.6)
