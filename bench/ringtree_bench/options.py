"""Options that the suite's commands share, and what their words stand for."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click
import ringtree as rt

from ringtree_bench import dtypes
from ringtree_bench.cases import Case, cases_of_sizes
from ringtree_bench.check import require_op
from ringtree_bench.sizes import parse_sizes

EXIT_WRONG = 1

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _together(*options: Decorator) -> Decorator:
    """All of them, in this order in the help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def what_to_measure(collectives: Iterable[str], sizes: str) -> Decorator:
    """--collective, --sizes, --dtype, --op, --algorithm; `sizes` is the default."""
    return _together(
        click.option(
            "--collective",
            default="all_reduce",
            show_default=True,
            metavar="NAME,...|all",
            help=f"What to measure: {', '.join(collectives)}.",
        ),
        click.option(
            "--sizes",
            default=sizes,
            show_default=True,
            metavar="FIRST:LAST[:FACTOR]",
            help="Bytes of the whole array, as nccl-tests counts them; factor 2 if not given. A list: 8,64K.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(rt.DTYPES),
            default="float32",
            show_default=True,
            help="Type of the elements.",
        ),
        click.option(
            "--op", type=click.Choice(rt.OPS), default="sum", show_default=True, help="What a reduction does."
        ),
        click.option(
            "--algorithm",
            default="auto",
            show_default=True,
            metavar="auto|all|NAME,...",
            help="ringtree's algorithms, a row for each; peers are measured once.",
        ),
    )


def how_to_measure(seconds: float) -> Decorator:
    """--seconds, --iterations, --seed, --json."""
    return _together(
        click.option(
            "--seconds",
            type=click.FloatRange(min=0.0, min_open=True),
            default=seconds,
            show_default=True,
            help="Time for one size, all contenders together; at least 5 rounds are run.",
        ),
        click.option(
            "--iterations", type=click.IntRange(min=1), help="Rounds for one size, instead of a time."
        ),
        click.option(
            "--seed", type=click.IntRange(min=0), help="Repeat the inputs of a run that printed this seed."
        ),
        click.option(
            "--json",
            "json_path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Write all that was measured; .jsonl appends a line.",
        ),
    )


def listed(text: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated list; `all` is all that are known."""
    names = list(known) if text == "all" else list(dict.fromkeys(part.strip() for part in text.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"there is no {what} {name!r}; there are {', '.join(known)}")
    return names


def listed_peers(text: str, known: Iterable[str]) -> list[str]:
    """The same for peers, of whom there may be none."""
    return [] if text == "none" else listed(text, list(known), "peer")


def listed_cases(names: Sequence[str], sizes: str, dtype: str, op: str, ranks: int) -> list[Case]:
    """All rows to come, in order; a ValueError says which option is at fault."""
    require_kind(dtype, op)
    wanted = parse_sizes(sizes)
    cases = [case for name in names for case in cases_of_sizes(name, wanted, dtype, op, ranks)]
    if not cases:
        raise ValueError(f"--sizes {sizes}: not one holds an element of {dtype} for each of {ranks} ranks")
    return cases


def require_kind(dtype: str, op: str) -> None:
    """Refuse what cannot be computed here, before anything is measured."""
    dtypes.numpy_dtype(dtype)
    require_op(op, dtype)


def require_folders(*paths: Path | None) -> None:
    """Make the folders of all that is to be written, or say now that it cannot be."""
    for path in filter(None, paths):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error}") from None
        if not os.access(path.parent, os.W_OK):
            raise ValueError(f"{path} cannot be written: no permission")
