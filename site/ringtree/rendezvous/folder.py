"""Through files in a folder that all ranks see.

Each rank keeps one card there, a file that it replaces as a whole: a number drawn for this attempt, the
numbers that it has seen on the others' cards, and the payload. When all cards show the same numbers,
everybody has seen everybody. Cards that a killed run has left behind cannot pass for new ones, because nobody
has written the new numbers on them. Rank 0 clears the table when all say that they are done.
"""

import itertools
import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from ringtree.errors import InvalidArgument, TransportError
from ringtree.rendezvous.wait import Exchange, did_not_come, looks

# Rendezvous that this process has been through. All ranks count alike, so the next has new file names.
_finished = itertools.count(1)
_turn = next(_finished)


@dataclass(frozen=True)
class _Card:
    number: str
    seen: list[str]  # the numbers on the cards, by rank; "" for a card that is not there
    done: bool
    payload: bytes

    def text(self) -> bytes:
        seen = " ".join(number or "-" for number in self.seen)
        return f"{self.number}\n{seen}\n{int(self.done)}\n".encode() + self.payload

    @classmethod
    def parse(cls, text: bytes) -> "_Card":
        number, seen, done, payload = text.split(b"\n", 3)
        return cls(number.decode(), seen.decode().replace("-", "").split(" "), done == b"1", payload)


def through_folder(address: str, rank: int, world: int, timeout: float) -> Exchange:
    """Through the folder that `address` names, which is made if it is not there.

    Args:
        address: "file:///some/folder"; one job at a time.
        rank: this rank.
        world: how many there are.
        timeout: seconds.

    Raises:
        InvalidArgument: it is no such address.
    """
    folder = Path(address.removeprefix("file://"))
    if not address.startswith("file://") or not folder.is_absolute():
        raise InvalidArgument(f"rendezvous {address!r} is no address: it must look like file:///some/folder")

    def exchange(payload: bytes) -> list[bytes]:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _Table(folder, rank, world).meet(payload, timeout)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise TransportError(f"rank {rank}, init: cannot meet in {folder}: {error}") from None

    return exchange


class _Table:
    """The cards of one rendezvous."""

    def __init__(self, folder: Path, rank: int, world: int) -> None:
        self._paths = [folder / f"ringtree-{_turn}-{each}" for each in range(world)]
        self._rank, self._world = rank, world

    def meet(self, payload: bytes, timeout: float) -> list[bytes]:
        global _turn  # noqa: PLW0603
        own = _Card(secrets.token_hex(8), [""] * self._world, False, payload)
        everybody, came, agreed = set(range(self._world)), {self._rank}, {self._rank}
        try:
            self._put(own)
            for _ in looks(timeout):
                cards = self._look()
                numbers = [card.number if card else "" for card in cards]
                came |= {peer for peer, card in enumerate(cards) if card and own.number in card.seen}
                if own.seen != numbers:
                    own = replace(own, seen=numbers)
                    self._put(own)
                    continue
                # A rank that believes in a larger world has more on its card. The core compares sizes.
                agreed = {
                    peer for peer, card in enumerate(cards) if card and card.seen[: self._world] == numbers
                }
                if len(agreed) == self._world:
                    break
            else:
                missing = everybody - came or everybody - agreed
                raise did_not_come(self._rank, self._world, sorted(missing - {self._rank}), timeout)
            self._put(replace(own, done=True))
        except BaseException:
            self._paths[self._rank].unlink(missing_ok=True)
            raise
        _turn = next(_finished)
        if self._rank == 0:
            self._clear(timeout)
        return [card.payload for card in cards if card]

    def _clear(self, timeout: float) -> None:
        for _ in looks(timeout):
            if all(card and card.done for card in self._look()):
                break
        for path in self._paths:
            path.unlink(missing_ok=True)

    def _put(self, card: _Card) -> None:
        path = self._paths[self._rank]
        draft = path.with_name(path.name + ".draft")
        draft.write_bytes(card.text())
        os.replace(draft, path)  # at once: nobody reads half a card

    def _look(self) -> list[_Card | None]:
        cards: list[_Card | None] = []
        for path in self._paths:
            try:
                cards.append(_Card.parse(path.read_bytes()))
            except (FileNotFoundError, ValueError):  # not there, or no card of ours
                cards.append(None)
        return cards
