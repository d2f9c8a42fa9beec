"""Where the table goes: a terminal with colours and a progress bar, or plain lines; the first rank alone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ringtree_bench.table import AnyRow


class Screen:
    """Prints lines at once, above a progress bar where there is a terminal; mute on all ranks but one."""

    def __init__(self, speaks: bool) -> None:
        """Print only if `speaks`."""
        self._speaks = speaks
        self._terminal = speaks and is_terminal()
        self._console = Console(force_terminal=self._terminal, highlight=False)
        self._progress: Progress | None = None

    @contextmanager
    def progress(self, total: int) -> Iterator[None]:
        """Show how many of `total` cases are done, on a terminal."""
        if not self._terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # no refreshing in the background: a second thread would take time from what is measured
        with Progress(*columns, console=self._console, transient=True, auto_refresh=False) as self._progress:
            self._progress.add_task("", total=total)
            yield
        self._progress = None

    def begin(self, what: str) -> None:
        """Name the case that is measured now."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], description=what, refresh=True)

    def done(self) -> None:
        """One case more is measured."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], advance=1, refresh=True)

    def say(self, text: str, row: AnyRow | None = None) -> None:
        """Print one line; a row is red where elements are wrong, and yellow where a peer was faster."""
        if not self._speaks:
            return
        if not self._terminal:
            print(text, flush=True)
            return
        style = "dim" if text.startswith("#") else ""
        if row:
            slower = any(ratio is not None and ratio < 1 for ratio in row.ratios)
            style = "bold red" if row.wrong else "yellow" if slower else ""
        self._console.print(Text(text, style=style), soft_wrap=True)


def is_terminal() -> bool:
    """Whether someone watches the output as it comes.

    Open MPI gives its ranks a pseudo-terminal even where its own output goes to a file; it is the launcher's
    output that counts then.
    """
    if not sys.stdout.isatty() or sys.stderr.isatty():
        return sys.stdout.isatty()
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/1").startswith(("/dev/pts/", "/dev/tty"))
    except OSError:
        return False
