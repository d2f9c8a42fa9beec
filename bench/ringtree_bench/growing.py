"""A record that is on disk from its first row on: what ends a run early takes no row along.

A .jsonl file has a line a run. That of this one is written again, longer, as its rows come, and stays the
last one unless another run has written behind it meanwhile: then the newest state is one more line. Readers
find the same rows twice there, and never fewer.
"""

import json
import os
from pathlib import Path
from typing import Any


class GrowingRecord:
    """The file, as far as one run writes it."""

    def __init__(self, path: Path) -> None:
        """Nothing is written yet. A file that is not .jsonl will be replaced."""
        self._path = path
        self._start, self._end = 0, -1  # of this run's line, as it was left

    def write(self, document: dict[str, Any]) -> None:
        """Let this be the record, in place of what was written before."""
        if self._path.suffix == ".jsonl":
            self._write_line(json.dumps(document).encode() + b"\n")
            return
        aside = self._path.with_name(f"{self._path.name}.new")
        aside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        os.replace(aside, self._path)

    def _write_line(self, line: bytes) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        with open(descriptor, "r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end != self._end:
                self._start = _behind_whole_lines(file, end)
            file.seek(self._start)
            file.write(line)
            self._end = file.tell()
            file.truncate()


def _behind_whole_lines(file: Any, end: int) -> int:
    """Where a new line begins; what was cut off in the middle of a line gets its end first."""
    if end == 0:
        return 0
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return end
    file.write(b"\n")
    return end + 1
