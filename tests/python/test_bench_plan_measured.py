"""`ringtree plan --measure`: the fit finds the constants behind given times; ranks measure, check and save."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import ringtree as rt
from ringtree_bench.planning.constants import Constants, read_constants
from ringtree_bench.planning.measured import checks, constants_from, measure_times, split
from ringtree_bench.planning.model import Job
from ringtree_bench.planning.table import comparison
from ringtree_bench.screen import Screen
from ringtree_bench.world import World

SIZES = [64 << shift for shift in range(0, 22, 2)]
CACHED, UNCACHED = 40e9, 10e9


def truth(step: float, call: float, factors: Mapping[str, float]) -> Constants:
    rates = {size: CACHED if size < 1 << 22 else UNCACHED for size in SIZES}
    return Constants(step, rates, call, factors)


def times_of(constants: Constants, collective: str, world: int) -> dict[int, dict[str, float]]:
    return {size: Job(world, constants).times(collective, size) for size in SIZES}


@pytest.mark.parametrize("world", [3, 4])
def test_the_fit_recovers_what_the_times_were_made_of(world: int) -> None:
    factors = {"ring": 1.4, "one_shot": 0.7}
    constants = truth(step=1e-6, call=2e-6, factors=factors)
    found = constants_from(times_of(constants, "all_reduce", world), "all_reduce", world, "made up")
    assert found.step == pytest.approx(1e-6, rel=0.03)
    assert found.call == pytest.approx(2e-6, rel=0.03)
    assert found.factors["ring"] / found.factors["one_shot"] == pytest.approx(2, rel=0.03)
    assert found.bandwidth_at(1 << 16) / found.bandwidth_at(1 << 26) == pytest.approx(
        CACHED / UNCACHED, rel=0.05
    )


def test_noise_of_a_few_percent_moves_predictions_by_no_more() -> None:
    constants = truth(step=0.5e-6, call=1e-6, factors={})
    noise = np.random.default_rng(4)
    noisy = {
        size: {name: seconds * np.exp(0.05 * noise.standard_normal()) for name, seconds in row.items()}
        for size, row in times_of(constants, "all_reduce", 4).items()
    }
    found = Job(4, constants_from(noisy, "all_reduce", 4, "made up"))
    for size, row in times_of(constants, "all_reduce", 4).items():
        if size < 1 << 20:  # what lies midway between a cache and memory is interpolated
            assert found.times("all_reduce", size) == pytest.approx(row, rel=0.15)


def test_sizes_are_fitted_or_checked_and_never_both() -> None:
    for count in range(3, 12):
        fitted, checked = split(SIZES[:count])
        assert sorted([*fitted, *checked]) == SIZES[:count]
        assert SIZES[count - 1] in fitted
        assert checked


def test_a_check_uses_times_that_the_fit_has_not_seen() -> None:
    constants = truth(step=1e-6, call=2e-6, factors={})
    times = times_of(constants, "all_reduce", 4)
    fitted, checked = split(SIZES)
    spoilt = {size: dict.fromkeys(row, 7.0) if size in checked else row for size, row in times.items()}
    assert constants_from(spoilt, "all_reduce", 4, "") == constants_from(times, "all_reduce", 4, "")
    points = list(checks(spoilt, Job(4, constants), "all_reduce", fitted))
    assert {point.size for point in points if not point.fitted} == set(checked)
    assert all(point.error == pytest.approx(0) for point in points if point.fitted)


def test_the_comparison_counts_unseen_points_alone_and_names_the_worst() -> None:
    job = Job(2, truth(step=1e-6, call=1e-6, factors={}))
    fitted, checked = split(SIZES)
    times = times_of(job.constants, "reduce", 2)
    times[fitted[0]] = dict.fromkeys(times[fitted[0]], 1.0)
    times[checked[0]]["ring"] *= 2
    *_, last = comparison(list(checks(times, job, "reduce", fitted)))
    assert (
        last
        == "# 15 points that the fit has not seen: median error 0 %, 14 within 25 %, worst -50 % (ring at 256)"
    )


def test_all_ranks_hold_the_same_measured_times() -> None:
    def body(comm: rt.Communicator) -> dict[int, dict[str, float]]:
        return measure_times(World(comm), "all_gather", (64, 256, 1024), 0.01, Screen(False))

    first, second = rt.run_local(2, body)
    assert first == second
    assert list(first) == [64, 256, 1024]
    assert all(set(row) == set(rt.algorithms("all_gather")) for row in first.values())


def test_ranks_measure_check_draw_and_save(tmp_path: Path) -> None:
    ringtree = [sys.executable, "-m", "ringtree", "plan"]
    options = ["--sizes", "64:64K:4", "--seconds", "0.02", "--save", str(tmp_path / "c.json")]
    options += ["--json", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.png")]
    done = subprocess.run(
        [*ringtree, "--measure", "-n", "2", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "points that the fit has not seen: median error" in done.stdout
    points = json.loads((tmp_path / "run.json").read_text())["checks"]
    assert len(points) == 6 * len(rt.algorithms("all_reduce"))
    assert all(point["predicted"] > 0 and point["measured"] > 0 for point in points)
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert read_constants(tmp_path / "c.json").source == "measured with 2 ranks"
    again = subprocess.run(
        [*ringtree, "--ranks", "64", "--hosts", "32", "--alpha", "5us", "--bandwidth", "100Gb/s",
         "--constants", str(tmp_path / "c.json")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "(measured with 2 ranks)" in again.stdout
