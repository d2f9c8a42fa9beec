import json
import os

import pytest
import ringtree as rt
from contract.processes import run_processes
from ringtree.tuning import read_tuning, tuning_path


def rules_of(monkeypatch, tmp_path, entries, forced=""):
    path = tmp_path / "tuning.json"
    path.write_text(json.dumps({"version": 1, "entries": entries}))
    monkeypatch.setenv("RINGTREE_TUNING", str(path))
    monkeypatch.setenv("RINGTREE_ALGORITHM", forced)


def chosen(world, collective, nbytes):
    return rt.run_local(world, lambda comm: comm.chosen(collective, nbytes))[0]


def test_the_file_decides_for_its_collective_transport_and_world(monkeypatch, tmp_path):
    entry = {
        "collective": "all_reduce",
        "transport": "threads",
        "world": 2,
        "rules": [[1000, "ring"], [2**40, "double_tree"]],
    }
    rules_of(monkeypatch, tmp_path, [entry])
    assert chosen(2, "all_reduce", 1000) == "ring"
    assert chosen(2, "all_reduce", 1001) == "double_tree"
    assert chosen(2, "all_reduce", 2**45) == "double_tree"
    assert chosen(3, "all_reduce", 8) == "one_shot"


def test_the_environment_overrides_the_file(monkeypatch, tmp_path):
    entry = {"collective": "all_reduce", "transport": "threads", "world": 2, "rules": [[2**40, "ring"]]}
    rules_of(monkeypatch, tmp_path, [entry], forced="all_reduce=two_shot, broadcast=ring")
    assert chosen(2, "all_reduce", 8) == "two_shot"
    assert chosen(2, "broadcast", 8) == "ring"
    rules_of(monkeypatch, tmp_path, [entry], forced="double_tree")
    assert chosen(2, "all_reduce", 8) == chosen(2, "reduce", 8) == "double_tree"
    assert chosen(2, "all_gather", 8) in rt.algorithms("all_gather")


@pytest.mark.parametrize(
    ("forced", "message"),
    [
        ("bubble", "no algorithm 'bubble'"),
        ("all_reduce=pairwise", "no algorithm 'pairwise'"),
        ("sort=ring", "no collective 'sort'"),
    ],
)
def test_unknown_names_in_the_environment_are_refused(monkeypatch, forced, message):
    monkeypatch.setenv("RINGTREE_ALGORITHM", forced)
    with pytest.raises(rt.InvalidArgument, match=message):
        rt.init()


def entries(rules, collective="all_reduce"):
    entry = {"collective": collective, "transport": "shm", "world": 2, "rules": rules}
    return json.dumps({"version": 1, "entries": [entry]})


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 2, "entries": []}',
        '{"version": 1, "entries": [{}]}',
        '{"version": 1, "entries": [1]}',
        entries([]),
        entries("ring"),
        entries([[8, "ring", 1]]),
        entries([["8x", "ring"]]),
        entries([[8, "ring"], [8, "one_shot"]]),
        entries([[8, "bubble"]]),
        entries([[8, "ring"]], collective="sort"),
    ],
)
def test_a_corrupt_file_is_named(monkeypatch, tmp_path, content):
    path = tmp_path / "tuning.json"
    path.write_text(content)
    monkeypatch.setenv("RINGTREE_TUNING", str(path))
    with pytest.raises(rt.InvalidArgument, match=f"{path} is no tuning file"):
        read_tuning(path)


def choose(comm):
    return comm.chosen("all_reduce", 8)


def test_rank_0s_settings_hold_for_all_ranks_and_their_groups(tmp_path):
    forced = {"RINGTREE_ALGORITHM": "all_reduce=double_tree"}
    for outcome in run_processes(3, choose_by_rank, str(tmp_path), joined=False, environment=forced):
        assert outcome.result() == ("double_tree", "double_tree")


def choose_by_rank(folder):
    if os.environ["RANK"] != "0":  # what is wrong elsewhere does not matter
        os.environ["RINGTREE_ALGORITHM"] = "all_reduce=ring" if os.environ["RANK"] == "1" else "bubble"
    with rt.init() as comm, comm.split(0) as group:
        comm.barrier()
        return choose(comm), choose(group)


def test_what_is_wrong_with_rank_0s_settings_is_told_on_every_rank(tmp_path):
    path = tmp_path / "tuning.json"
    path.write_text("{")
    for outcome in run_processes(3, choose, environment={"RINGTREE_TUNING": str(path)}):
        assert isinstance(outcome.error, rt.InvalidArgument)
        assert f"{path} is no tuning file that this ringtree can read (JSONDecodeError" in str(outcome.error)


def test_the_path_follows_the_environment(tmp_path):
    assert str(tuning_path({"RINGTREE_TUNING": "/a/b.json"})) == "/a/b.json"
    assert str(tuning_path({"XDG_CONFIG_HOME": "/c"})) == "/c/ringtree/tuning.json"


def test_every_declared_cost_is_sensible():
    for collective in rt.COLLECTIVES:
        for algorithm in rt.algorithms(collective):
            small, large = (rt._core.cost(collective, algorithm, 4, size) for size in (64, 2**26))
            assert 0 < small.steps <= large.steps
            assert small.bytes_per_link <= large.bytes_per_link
            assert small.moved_bytes <= large.moved_bytes
