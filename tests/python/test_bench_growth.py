import json

import pytest
from click.testing import CliRunner
from ringtree_bench.growth import growth, spread_out, times_of


def record(world, rows):
    return {
        "world": world, "transport": "shm", "date": "2026-01-01T00:00:00",
        "machine": {"cpu": "a processor", "cores": 2, "usable_cores": 2},
        "versions": {"ringtree": "1"}, "peers": {"mpi": "an MPI"}, "rows": rows,
    }  # fmt: skip


def timing(seconds):
    return {"median": seconds, "p10": seconds / 2, "p90": seconds * 2}


def row(size, ours, mpi, algorithm="auto", collective="all_reduce"):
    return {
        "collective": collective, "algorithm": algorithm, "size": size,
        "ringtree": timing(ours), "peers": {"mpi": timing(mpi) if mpi else None},
    }  # fmt: skip


RUNS = [
    record(2, [row(8, 1e-6, 2e-6), row(64, 1e-6, None), row(8, 9e-6, 2e-6, algorithm="ring")]),
    record(4, [row(8, 5e-6, 7e-6), row(8, 5e-6, 7e-6, collective="broadcast")]),
    record(4, [row(8, 4e-6, 6e-6)]),
]


def test_times_are_by_size_contender_and_world_and_the_last_run_counts():
    assert times_of(RUNS, "all_reduce") == {
        8: {
            "ringtree": {2: (1e-6, 5e-7, 2e-6), 4: (4e-6, 2e-6, 8e-6)},
            "mpi": {2: (2e-6, 1e-6, 4e-6), 4: (6e-6, 3e-6, 1.2e-5)},
        },
        64: {"ringtree": {2: (1e-6, 5e-7, 2e-6)}},
    }


def test_four_of_many_sizes_are_drawn():
    assert spread_out([1, 2, 3]) == [1, 2, 3]
    assert spread_out(list(range(10))) == [0, 3, 6, 9]


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_the_drawing_is_written(tmp_path, suffix):
    runs = tmp_path / "runs.jsonl"
    runs.write_text("".join(json.dumps(run) + "\n" for run in RUNS))
    result = CliRunner().invoke(growth, [str(runs), str(tmp_path / f"plot{suffix}")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"plot{suffix}").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plot.txt"], "the name must end in .png, .svg, .pdf"),
        (["plot.svg", "--collective", "gather"], "has no run of gather"),
        (["plot.svg", "--sizes", "16"], "has none of the sizes 16"),
    ],
)
def test_what_cannot_be_drawn_is_explained(tmp_path, arguments, message):
    runs = tmp_path / "runs.jsonl"
    runs.write_text("".join(json.dumps(run) + "\n" for run in RUNS))
    result = CliRunner().invoke(growth, [str(runs), *arguments])
    assert result.exit_code == 1
    assert message in result.output
