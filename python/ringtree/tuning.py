"""Which algorithm "auto" takes, where the user has a say: `ringtree tune`'s file and RINGTREE_ALGORITHM."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ringtree import _core
from ringtree.errors import InvalidArgument

_EVERY_SIZE = 2**62

Rules = list[tuple[int, str]]


def tuning_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `ringtree tune` writes: $RINGTREE_TUNING, else ringtree/tuning.json in the user's configuration."""
    if path := environment.get("RINGTREE_TUNING"):
        return Path(path)
    folder = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "ringtree" / "tuning.json"


def settings_text(environment: Mapping[str, str] = os.environ) -> str:
    """This process's settings as one line of JSON, for rank 0 to share: all ranks must choose alike.

    Raises:
        InvalidArgument: the tuning file is no such file.
    """
    path = tuning_path(environment)
    entries: Any = []
    if path.exists():
        try:
            content = json.loads(path.read_text())
            if content["version"] != 1:
                raise ValueError(f"version {content['version']}")
            entries = [
                [e["collective"], e["transport"], int(e["world"]), [[int(upto), str(name)] for upto, name in e["rules"]]]
                for e in content["entries"]
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"{path} is not a tuning file ({type(error).__name__}: {error}): delete it or run `ringtree tune` again"
            ) from error
    return json.dumps({"entries": entries, "forced": environment.get("RINGTREE_ALGORITHM", "")})


def rules_in(settings: str, transport: str, world: int) -> Iterator[tuple[str, Rules]]:
    """The rules that `settings` has for each collective of such a communicator; later ones replace earlier."""
    content = json.loads(settings)
    for collective, its_transport, its_world, rules in content["entries"]:
        if (its_transport, its_world) == (transport, world) and rules:
            yield collective, [(upto, name) for upto, name in rules]
    yield from _forced(content["forced"])


def _forced(text: str) -> Iterator[tuple[str, Rules]]:
    """From RINGTREE_ALGORITHM: "ring", or "all_reduce=ring,broadcast=two_shot"."""
    for part in filter(None, (part.strip() for part in text.split(","))):
        collective, given, name = part.rpartition("=")
        if given:
            if collective not in _core.COLLECTIVES:
                raise InvalidArgument(
                    f"RINGTREE_ALGORITHM={text!r}: there is no collective {collective!r}; "
                    f"there are {', '.join(_core.COLLECTIVES)}"
                )
            having = [collective] if name in _core.algorithms(collective) else []
        else:
            having = [c for c in _core.COLLECTIVES if name in _core.algorithms(c)]
        if not having:
            known = _core.algorithms(collective) if given else sorted({a for c in _core.COLLECTIVES for a in _core.algorithms(c)})
            raise InvalidArgument(f"RINGTREE_ALGORITHM={text!r}: there is no algorithm {name!r}; there are {', '.join(known)}")
        for one in having:
            yield one, [(_EVERY_SIZE, name)]
