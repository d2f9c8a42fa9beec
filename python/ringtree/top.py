"""The command `ringtree top`: what the ranks of a running job do, seen from outside."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ringtree import _core
from ringtree.errors import InvalidArgument, TransportError
from ringtree.snapshots import RankView, Snapshot, parse, title_of
from ringtree.story import seconds

_BETWEEN_LOOKS = 0.5  # seconds, for the rates of a single frame

Frame = dict[str, Snapshot]  # by communicator


@click.command()
@click.argument("pid", type=int, required=False)
@click.option("--once", is_flag=True, help="Print one frame and stop.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="Seconds between frames.",
)
def top(pid: int | None, once: bool, interval: float) -> None:
    """Show what every rank of a job does: the call it is in, since when, whom it waits for, how fast it is.

    PID is the process of any rank; without it the only job that runs here is shown, or all are listed. The
    job is only read: it does not notice. Needs the right to read its memory (the same user, or root).
    """
    console = Console(highlight=False)
    chosen = the_only_job() if pid is None else pid
    before = look(chosen)
    if not before:
        raise InvalidArgument(f"process {chosen} has no communicator between processes")
    time.sleep(min(interval, _BETWEEN_LOOKS))
    if once or not console.is_terminal:
        for now in frames(chosen, interval):
            console.print(drawn(before, now))
            before = now
            if once:
                return
    else:
        with Live(console=console, screen=False, auto_refresh=False) as live, suppress(KeyboardInterrupt):
            for now in frames(chosen, interval):
                live.update(drawn(before, now), refresh=True)
                before = now
    console.print(f"process {chosen} has ended or left all communicators")


def frames(pid: int, interval: float) -> Iterator[Frame]:
    """A frame every `interval` seconds while the process has communicators."""
    while now := look(pid):
        yield now
        time.sleep(interval)


def look(pid: int) -> Frame:
    """The communicators that a process is in; none once it has ended.

    Raises:
        TransportError: its memory may not be read.
    """
    try:
        snapshots = [parse(text) for text in _core.observe(pid)]
    except TransportError:
        if Path(f"/proc/{pid}").exists():
            raise
        return {}
    return {snapshot.communicator: snapshot for snapshot in snapshots}


def processes() -> list[int]:
    """All processes of this machine, as far as they can be seen from here."""
    return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*"))


def the_only_job() -> int:
    """The process of one rank of the job that runs here.

    Raises:
        InvalidArgument: there is no job, or several; names the processes to choose from.
    """
    jobs: list[tuple[set[int], int, str]] = []
    for pid in processes():
        if any(pid in members for members, _, _ in jobs):
            continue
        with suppress(OSError, TransportError):
            if "/dev/shm/ringtree-" not in Path(f"/proc/{pid}/maps").read_text():
                continue
            command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            members = {view.pid for snapshot in look(pid).values() for view in snapshot.ranks} | {pid}
            jobs.append((members, pid, command))
    if not jobs:
        raise InvalidArgument(
            "no job with communicators between processes runs here, or none that may be read"
        )
    if len(jobs) > 1:
        listed = "\n".join(f"  {pid}  {len(members)} ranks  {command}" for members, pid, command in jobs)
        raise InvalidArgument(f"several jobs run here; say which by the process of one rank:\n{listed}")
    return jobs[0][1]


def drawn(before: Mapping[str, Snapshot], now: Mapping[str, Snapshot]) -> RenderableType:
    """A table for each communicator, with rates since the frame before."""
    return Group(*(table_of(before.get(name, snapshot), snapshot) for name, snapshot in now.items()))


def table_of(before: Snapshot, now: Snapshot) -> Table:
    """One communicator: a row a rank."""
    title = title_of(now)
    if now.fault:
        title += f"; ended by {now.fault.kind}: {now.fault.text}"
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("rank", "pid", "calls/s", "GB/s", "behind"):
        table.add_column(name, justify="right")
    for name in ("waits for", "does"):
        table.add_column(name)
    elapsed = max(now.now_ns - before.now_ns, 1) / 1e9
    first = max(view.entered for view in now.ranks)
    for old, view in zip(before.ranks, now.ranks, strict=True):
        table.add_row(
            str(view.rank),
            str(view.pid),
            f"{(view.done - old.done) / elapsed:,.0f}",
            f"{(view.moved_bytes - old.moved_bytes) / elapsed / 1e9:.2f}",
            _behind(view, now, first),
            _wait(view, now),
            Text(_doing(view, now)),
        )
    return table


def _behind(view: RankView, now: Snapshot, first: int) -> str:
    """How many calls after the first rank it is, or how much later it entered the same call."""
    if view.entered < first:
        return f"{first - view.entered} call{'s' if first - view.entered > 1 else ''}"
    began = [other.newest.began_ns for other in now.ranks if other.entered == first and other.newest]
    times = [time for time in began if time]
    mine = view.newest.began_ns if view.newest else None
    return f"{seconds(mine - min(times))}" if mine and times else ""


def _wait(view: RankView, now: Snapshot) -> str:
    if view.waits_for is None or view.process != "runs":
        return ""
    since = f", {seconds(now.now_ns - view.waits_since_ns)}" if view.waits_since_ns else ""
    return f"rank {view.waits_for}{since}"


def _doing(view: RankView, now: Snapshot) -> str:
    if view.state == "left":
        return "has left"
    if view.process != "runs":
        where = f" in {view.newest}" if view.newest and not view.newest.done else ""
        return f"is stopped{where}" if view.process == "stopped" else f"has ended{where}"
    pending = [message for message in view.messages if not message.done]
    if pending:
        return str(pending[0])
    call = view.newest
    if call is None:
        return "has made no collective call" if view.entered == 0 else f"#{view.entered}"
    since = f" {seconds(now.now_ns - call.began_ns)} ago" if call.began_ns else ""
    return f"computes since {call},{since}" if call.done else f"{call}, begun{since}"
