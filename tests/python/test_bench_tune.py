"""Rules from times: real crossovers, no noise; and a file that keeps what it does not replace."""

import json
from pathlib import Path

import pytest
import ringtree as rt
from ringtree_bench.tune import describe, rules_from, tune_world, write_entries
from ringtree_bench.world import World


def times_of(*rows: tuple[int, float, float]) -> dict[int, dict[str, float]]:
    return {size: {"tree": tree, "ring": ring} for size, tree, ring in rows}


def test_a_crossover_makes_two_rules_that_meet_between_the_sizes() -> None:
    times = times_of((64, 1, 2), (1024, 2, 3), (16384, 9, 6), (262144, 90, 50))
    assert rules_from(times) == [(4096, "tree"), (262144, "ring")]


def test_one_noisy_size_makes_no_rule() -> None:
    times = times_of((64, 1, 2), (1024, 1.04, 1), (16384, 1, 2), (262144, 1, 2))
    assert rules_from(times) == [(262144, "tree")]


def test_less_than_three_percent_is_no_reason_to_change() -> None:
    times = times_of((64, 1, 1.02), (1024, 1.02, 1), (16384, 1.029, 1), (262144, 1.02, 1))
    assert len(rules_from(times)) == 1


def test_a_small_gain_over_many_sizes_is_a_reason() -> None:
    times = times_of((64, 1, 1.5), (1024, 1.05, 1), (16384, 1.05, 1), (262144, 1.05, 1))
    assert [name for _, name in rules_from(times)] == ["tree", "ring"]


def test_an_algorithm_that_a_size_does_not_support_is_not_chosen_there() -> None:
    assert rules_from({64: {"ring": 5.0}, 1024: {"ring": 5.0, "tree": 1.0}}) == [
        (256, "ring"),
        (1024, "tree"),
    ]


def test_rules_read_well() -> None:
    assert describe([(4096, "tree"), (1 << 20, "ring")]) == "tree up to 4K, ring"


def test_other_worlds_and_transports_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tuning.json"
    write_entries(path, "shm", 2, {"all_reduce": [(8, "ring")]})
    write_entries(path, "shm", 4, {"all_reduce": [(16, "ring")]})
    write_entries(path, "threads", 2, {"all_reduce": [(32, "ring")]})
    write_entries(path, "shm", 2, {"all_reduce": [(64, "double_tree")]})
    tuned = json.loads(path.read_text())
    assert tuned["version"] == 1
    assert {(entry["transport"], entry["world"]): entry["rules"] for entry in tuned["entries"]} == {
        ("shm", 2): [[64, "double_tree"]],
        ("shm", 4): [[16, "ring"]],
        ("threads", 2): [[32, "ring"]],
    }
    assert list(path.parent.iterdir()) == [path]  # nothing half-written is left


def test_a_file_that_holds_something_else_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.json"
    for text in ("my notes", "[]", '{"version": 2, "entries": []}', '{"version": 1, "entries": [{}]}'):
        path.write_text(text)
        with pytest.raises(rt.InvalidArgument, match=r"notes\.json"):
            write_entries(path, "shm", 2, {"all_reduce": [(8, "ring")]})
        assert path.read_text() == text


def test_tuning_a_world_of_threads_writes_a_rule_for_every_collective_with_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    rt.run_local(2, lambda comm: tune_world(World(comm), "64,64K", 0.01, path))
    entries = json.loads(path.read_text())["entries"]
    assert {entry["collective"] for entry in entries} == {
        name for name in rt.COLLECTIVES if name != "barrier" and len(rt.algorithms(name)) > 1
    }
    for entry in entries:
        assert (entry["transport"], entry["world"]) == ("threads", 2)
        assert all(name in rt.algorithms(entry["collective"]) for _, name in entry["rules"])
