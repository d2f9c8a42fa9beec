"""The command `ringtree trace`: what the ranks left in RINGTREE_TRACE_DIR, lined up and told in words."""

from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ringtree.errors import InvalidArgument
from ringtree.snapshots import Snapshot, parse, title_of
from ringtree.story import in_words, merged, seconds, tell


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--last", type=click.IntRange(min=1), default=8, show_default=True, help="Calls in the table.")
def trace(folder: Path, last: int) -> None:
    """Say who diverged where, from the files in FOLDER (RINGTREE_TRACE_DIR), or from one file.

    Ranks write them when a communicator ends in an error, or when the program calls comm.dump().
    """
    console = Console(highlight=False)
    for snapshots in read(folder).values():
        known = [snapshot.rank for snapshot in snapshots if snapshot.rank is not None]
        console.print(
            Text.assemble((title_of(snapshots[0]), "bold"), f", as told by {in_words(known)}"),
            soft_wrap=True,
        )
        for sentence in tell(snapshots):
            console.print(Text(f"  {sentence}"), soft_wrap=True)
        console.print(table_of(snapshots, last))


def read(folder: Path) -> dict[str, list[Snapshot]]:
    """The snapshots in a folder, by communicator; the one that ended first comes first.

    Raises:
        InvalidArgument: there are none, or one is not readable; names the file.
    """
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else [folder]
    if not paths:
        raise InvalidArgument(
            f"{folder} has no traces: set RINGTREE_TRACE_DIR={folder} and run the program again"
        )
    found: dict[str, list[Snapshot]] = {}
    for path in paths:
        try:
            snapshot = parse(path.read_text(encoding="utf-8"))
        except InvalidArgument as error:
            raise InvalidArgument(f"{path} cannot be read: {error}") from None
        found.setdefault(snapshot.communicator, []).append(snapshot)
    return dict(sorted(found.items(), key=lambda item: min(snapshot.now_ns for snapshot in item[1])))


def table_of(snapshots: Sequence[Snapshot], last: int) -> Table:
    """The last calls, a row each, and how far each rank has come with them."""
    views = merged(snapshots)
    newest = max(view.entered for view in views.values())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2))
    table.add_column("call", overflow="fold")
    for rank in sorted(views):
        table.add_column(f"rank {rank}", justify="right")
    for sequence in range(max(1, newest - last + 1), newest + 1):
        made = {rank: view.calls[sequence] for rank, view in views.items() if sequence in view.calls}
        if not made:
            continue
        began = [call.began_ns for call in made.values() if call.began_ns]
        texts = list(dict.fromkeys(call.text for call in made.values()))
        cells = []
        for rank in sorted(views):
            call = made.get(rank)
            if call is None:
                cells.append("not there")
                continue
            mark = "done" if call.done else "in it"
            if len(texts) > 1:
                mark = f"{mark} ({texts.index(call.text) + 1})"
            late = call.began_ns - min(began) if call.began_ns else 0
            cells.append(mark + (f" +{seconds(late)}" if late >= 1e6 else ""))
        names = texts[0] if len(texts) == 1 else "\n".join(f"({n}) {text}" for n, text in enumerate(texts, 1))
        table.add_row(Text(names), *cells)
    return table
