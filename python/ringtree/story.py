"""From the snapshots of ranks to sentences: who went another way, who is missing, who waits for whom."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ringtree.snapshots import Call, RankView, Snapshot

_SECOND = 1e9


def merged(snapshots: Sequence[Snapshot]) -> dict[int, RankView]:
    """Each rank as it saw itself, or as the latest of the others saw it."""
    latest = max(snapshots, key=lambda snapshot: snapshot.now_ns)
    views = {view.rank: view for view in latest.ranks}
    for snapshot in snapshots:
        if snapshot.rank is not None:
            views[snapshot.rank] = snapshot.ranks[snapshot.rank]
    return views


def tell(snapshots: Sequence[Snapshot]) -> list[str]:
    """What happened to one communicator.

    Args:
        snapshots: one or more, all of the same communicator.
    """
    views = merged(snapshots)
    now = max(snapshot.now_ns for snapshot in snapshots)
    divergence = [*_divergence(views)]
    story = [*_faults(snapshots), *divergence, *_missing(views, now)]
    if not divergence and all(s.fault is None or s.fault.kind != "Mismatch" for s in snapshots):
        story += _stuck(views, now)  # otherwise who found the difference waits for nobody, and looks guilty
    story += _messages(views, now)
    return story or ["Nothing is amiss: every rank has finished every call that any rank has entered."]


def in_words(ranks: Iterable[int]) -> str:
    """`rank 2`, `ranks 0 and 3`, `ranks 0, 2 and 3`."""
    names = [str(rank) for rank in sorted(ranks)]
    if len(names) == 1:
        return f"rank {names[0]}"
    return f"ranks {', '.join(names[:-1])} and {names[-1]}"


def seconds(nanoseconds: float) -> str:
    """`3.2 s`, `41 ms`, `7 us`."""
    if nanoseconds >= _SECOND:
        return f"{nanoseconds / _SECOND:.1f} s"
    return f"{nanoseconds / 1e6:.0f} ms" if nanoseconds >= 1e6 else f"{max(nanoseconds, 0) / 1e3:.0f} us"


def _faults(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    told = {(s.fault.kind, s.fault.text): s.fault for s in snapshots if s.fault}
    for fault in told.values():
        yield f"{fault.kind}: {fault.text}"


def _divergence(views: Mapping[int, RankView]) -> Iterator[str]:
    """The first sequence number under which ranks made different calls."""
    for sequence in sorted({sequence for view in views.values() for sequence in view.calls}):
        made: dict[str, dict[int, Call]] = {}
        for rank, call in _made(views, sequence).items():
            made.setdefault(call.text, {})[rank] = call
        if len(made) > 1:
            usual = max(made.values(), key=len)
            for calls in made.values():
                if calls is not usual:
                    yield (
                        f"{in_words(calls)} called {_named(calls)} "
                        f"where {in_words(usual)} called {_named(usual)}."
                    )
            return


def _made(views: Mapping[int, RankView], sequence: int) -> dict[int, Call]:
    """The calls of this number, by rank."""
    return {rank: view.calls[sequence] for rank, view in sorted(views.items()) if sequence in view.calls}


def _named(calls: Mapping[int, Call]) -> str:
    """A call that ranks made alike, and the line of the program, or the lines, in which they made it."""
    lines: dict[str, list[int]] = {}
    for rank, call in calls.items():
        if call.line:
            lines.setdefault(call.line, []).append(rank)
    text = next(iter(calls.values())).text
    if len(lines) > 1:
        return f"{text} at " + " and ".join(f"{line} ({in_words(ranks)})" for line, ranks in lines.items())
    return f"{text} at {next(iter(lines))}" if lines else text


def _newest(views: Mapping[int, RankView]) -> tuple[int, str]:
    """The number of the newest call, and the call itself if all who made it made the same."""
    newest = max(view.entered for view in views.values())
    calls = _made(views, newest)
    alike = len({call.text for call in calls.values()}) == 1
    return newest, _named(calls) if alike else f"#{newest}"


def _missing(views: Mapping[int, RankView], now: int) -> Iterator[str]:
    newest, what = _newest(views)
    for rank, view in sorted(views.items()):
        if view.entered < newest:
            yield f"rank {rank} never arrived at {what}. {_whereabouts(view, now)}"


def _whereabouts(view: RankView, now: int) -> str:
    call = view.newest
    if view.state == "left":
        fate = "It has closed the communicator"
    else:
        fate = _process(view).capitalize()
    if call is None:
        return f"{fate}; it has made no collective call."
    ago = f", {seconds(now - call.began_ns)} before" if call.began_ns else ""
    ending = "which it finished" if call.done else "which it has not finished"
    return f"{fate}; it was last seen in {call}, {ending}{ago}."


def _process(view: RankView) -> str:
    fates = {"runs": "runs", "stopped": "is stopped", "ended": "has ended"}
    return f"its process ({view.pid}) {fates[view.process]}"


def _stuck(views: Mapping[int, RankView], now: int) -> Iterator[str]:
    """Where all who are in the newest call wait, the rank at the end of the chain is the one to look at."""
    newest, what = _newest(views)
    inside = {rank: view for rank, view in views.items() if view.entered == newest and view.done < newest}
    if len(inside) < len(views):
        return
    for rank, view in sorted(inside.items()):
        waiting = [r for r, other in inside.items() if other.waits_for == rank]
        if not waiting or (view.waits_for is not None and view.process == "runs"):
            continue
        since = seconds(now - min(inside[r].waits_since_ns or now for r in waiting))
        wait = f"{in_words(waiting)} wait{'s' if len(waiting) == 1 else ''} for rank {rank}"
        yield f"All ranks are in {what}; {wait}, for {since}. It waits for nobody; {_process(view)}."


def _messages(views: Mapping[int, RankView], now: int) -> Iterator[str]:
    for rank, view in sorted(views.items()):
        for message in view.messages:
            if message.done:
                continue
            peer = views[message.peer]
            answer = "send" if message.op == "recv" else "recv"
            matching = (answer, rank, message.on_gpu)
            made = [m.number for m in peer.messages if (m.op, m.peer, m.on_gpu) == matching]
            if message.number in made:
                continue  # under way
            since = f", for {seconds(now - message.began_ns)}" if message.began_ns else ""
            calls = f"{max(made, default=0)} matching call{'' if max(made, default=0) == 1 else 's'}"
            fate = "" if peer.process == "runs" else f", and {_process(peer)}"
            wait = f"rank {rank} waits in {message}{since}"
            yield f"{wait}; rank {peer.rank} has made {calls}{fate}."
