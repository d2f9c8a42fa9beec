"""A plan in words: the table of predictions, where algorithms cross, and predictions beside measurements."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from ringtree_bench.planning.constants import Constants
from ringtree_bench.planning.crossovers import Crossover, quickest
from ringtree_bench.planning.measured import Check
from ringtree_bench.planning.model import Job
from ringtree_bench.planning.units import format_bandwidth, format_time
from ringtree_bench.sizes import format_size
from ringtree_bench.table import format_us

_SIZE_WIDTH = 8


def preamble(job: Job, collective: str) -> Iterator[str]:
    """For whom, and with which constants."""
    network, constants = job.network, job.constants
    where = f" on {network.hosts} hosts, {job.ranks // network.hosts} each" if network else " on one host"
    yield f"{collective}, {job.ranks} ranks{where}, predicted"
    if network:
        yield (
            f"between hosts: {format_time(network.alpha)} a hand-over, {format_time(network.gap)} a message, "
            f"{format_bandwidth(network.bandwidth)} a host, pieces of {format_size(network.piece)}"
        )
    yield f"inside a host: {in_words(constants)}"


def in_words(constants: Constants) -> str:
    """The constants in one line, of bandwidths only the least and the greatest."""
    rates = constants.bandwidth.values()
    by_size = f"{min(rates) / 1e9:.3g} to {format_bandwidth(max(rates))} by size"
    moving = format_bandwidth(next(iter(rates))) if len(rates) == 1 else by_size
    call = f"{format_time(constants.call)} a call, " if constants.call else ""
    return f"{call}{format_time(constants.step)} a hand-over, moving {moving} ({constants.source})"


def in_full(constants: Constants) -> Iterator[str]:
    """All that was found, in a few lines."""
    rates = (f"{format_size(size)} {rate / 1e9:.3g}" for size, rate in sorted(constants.bandwidth.items()))
    factors = (f"{name} {factor:.2f}" for name, factor in constants.factors.items())
    yield f"inside a host: {in_words(constants)}"
    yield f"moving, GB/s by size: {', '.join(rates)}"
    yield f"cost of a byte against the average: {', '.join(factors)}"


def predictions(times: Mapping[int, Mapping[str, float]]) -> Iterator[str]:
    """A row for each size, a column for each algorithm, the quickest at the end."""
    names = list(next(iter(times.values())))
    widths = [max(len(name), 10) + 2 for name in names]
    yield (
        "#"
        + f"{'size':>{_SIZE_WIDTH - 1}}"
        + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
        + "  quickest"
    )
    for size, row in times.items():
        cells = (f"{format_us(row[name]):>{width}}" for name, width in zip(names, widths, strict=True))
        yield f"{format_size(size):>{_SIZE_WIDTH}}{''.join(cells)}  {quickest(row)}"


def changes_in_words(changes: Sequence[Crossover]) -> Iterator[str]:
    """A line for each crossover."""
    for change in changes:
        yield f"{change.after} overtakes {change.before} at {format_size(change.size)}"
    if not changes:
        yield "one algorithm is the quickest at every size"


def comparison(points: Sequence[Check]) -> Iterator[str]:
    """Prediction and measurement of each point, and how far apart they are where nothing was fitted."""
    width = max(len(point.algorithm) for point in points)
    yield f"#{'size':>{_SIZE_WIDTH - 1}}  {'algorithm':<{width}}  predicted   measured   error"
    yield f"#{'':>{_SIZE_WIDTH - 1}}  {'':<{width}}       (us)       (us)     (%)"
    for point in points:
        yield (
            f"{format_size(point.size):>{_SIZE_WIDTH}}  {point.algorithm:<{width}}"
            f"{format_us(point.predicted):>11}{format_us(point.measured):>11}{100 * point.error:>+8.0f}"
            + ("  fitted" if point.fitted else "")
        )
    unseen = [point for point in points if not point.fitted]
    if not unseen:
        yield "# every size was needed for the fit: measure more of them to check it"
        return
    worst = max(unseen, key=lambda point: abs(point.error))
    within = sum(abs(point.error) <= 0.25 for point in unseen)
    yield (
        f"# {len(unseen)} points that the fit has not seen: median error "
        f"{100 * median(abs(point.error) for point in unseen):.0f} %, {within} within 25 %, "
        f"worst {100 * worst.error:+.0f} % ({worst.algorithm} at {format_size(worst.size)})"
    )
