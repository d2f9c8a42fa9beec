"""`ringtree plan`: the model against formulas worked out by hand, its units, crossovers, fit, and the command."""

import json
import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
import ringtree as rt
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from ringtree import _core
from ringtree_bench.machine import usable_cores
from ringtree_bench.plan import plan
from ringtree_bench.planning.constants import Constants, built_in, read_constants, write_constants
from ringtree_bench.planning.crossovers import Crossover, crossovers
from ringtree_bench.planning.drawing import spread_out
from ringtree_bench.planning.hosts import Spread, crossing
from ringtree_bench.planning.model import Job, Network
from ringtree_bench.planning.units import format_time, parse_bandwidth, parse_time

FREE = 1e30  # bytes per second that take no time
STEP, ALPHA, RATE = 1e-6, 10e-6, 1e9
BIG = 1 << 30  # pieces that hold everything, so that an algorithm needs a single round
COLLECTIVES = [name for name in rt.COLLECTIVES if name != "barrier"]


def over(ranks: int, hosts: int, alpha: float = ALPHA, bandwidth: float = RATE, gap: float = 0.0) -> Job:
    """A job in which bytes inside a host are free."""
    return Job(ranks, Constants(STEP, {1: FREE}), Network(hosts, alpha, bandwidth, gap, BIG))


# Units


@pytest.mark.parametrize(
    ("text", "seconds"), [("5us", 5e-6), ("300 ns", 3e-7), ("1.5ms", 1.5e-3), ("2s", 2.0), ("5e-1us", 5e-7)]
)
def test_times_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("50GB/s", 50e9),
        ("400Gb/s", 50e9),
        ("400Gbit/s", 50e9),
        ("800 Mbps", 1e8),
        ("1.2TB/s", 1.2e12),
        ("8b/s", 1),
    ],
)
def test_bandwidths_are_read_in_bytes_or_bits(text: str, rate: float) -> None:
    assert parse_bandwidth(text) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["5", "us", "-5us", "5 minutes", "", "5 u s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: write a number with ns, us, ms or s"):
        parse_time(text)


@pytest.mark.parametrize("text", ["50", "50GB", "GB/s", "50GiB/s", "0GB/s", "-1GB/s"])
def test_what_is_no_bandwidth_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a bandwidth|nothing arrives"):
        parse_bandwidth(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ns"), (3e-7, "300 ns"), (0.9999e-6, "1 us"), (1.234e-3, "1.23 ms"), (43, "43 s")],
)
def test_times_are_written_with_three_digits(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


# The model


def test_on_one_host_it_is_steps_and_moved_bytes_as_the_chooser_counts_them() -> None:
    size = 1 << 20
    cost = _core.cost("all_reduce", "ring", 8, size)
    constants = Constants(STEP, {1: RATE}, call=3e-6, factors={"ring": 2.0})
    expected = 3e-6 + cost.steps * STEP + 2 * cost.moved_bytes / RATE
    assert Job(8, constants).seconds("all_reduce", "ring", size) == pytest.approx(expected)


def test_without_constants_the_plan_and_the_chooser_agree() -> None:
    def chosen(comm: rt.Communicator) -> list[str]:
        return [comm.chosen("broadcast", 2**exponent) for exponent in range(3, 29)]

    step_us, bytes_per_us = _core.step_constants(usable_cores() < 4)
    job = Job(4, Constants(step_us * 1e-6, {1: bytes_per_us * 1e6}))
    planned = [job.times("broadcast", 2**exponent) for exponent in range(3, 29)]
    for name, times in zip(rt.run_local(4, chosen)[0], planned, strict=True):
        assert times[name] == pytest.approx(min(times.values()))


@pytest.mark.parametrize(("ranks", "hosts"), [(8, 8), (8, 4), (1024, 128)])
def test_a_ring_crosses_once_a_host(ranks: int, hosts: int) -> None:
    size, steps = 1 << 26, 2 * (ranks - 1)
    crossing_steps = steps * hosts / ranks
    expected = crossing_steps * ALPHA + (steps - crossing_steps) * STEP + steps / ranks * size / RATE
    assert over(ranks, hosts).seconds("all_reduce", "ring", size) == pytest.approx(expected)


def test_a_tree_crosses_at_its_upper_levels() -> None:
    size = 1 << 20  # 63 ranks below the root make a tree of 6 levels, passed up and down; 3 of them cross
    expected = 2 * 3 * ALPHA + 2 * 3 * STEP + 2 * size / RATE
    assert over(64, 8).seconds("all_reduce", "double_tree", size) == pytest.approx(expected)


def test_recursive_doubling_sends_all_of_everybodys_data_over_each_upper_bit() -> None:
    size = 1 << 20
    expected = 3 * ALPHA + 3 * STEP + 8 * 3 * size / RATE  # 64 ranks, 8 on each of 8 hosts
    assert over(64, 8).seconds("all_reduce", "recursive_doubling", size) == pytest.approx(expected)


def test_halving_sends_a_half_a_quarter_and_so_on_over_the_upper_bits() -> None:
    size = 1 << 20
    expected = 3 * ALPHA + 3 * STEP + 8 * (1 / 2 + 1 / 4 + 1 / 8) * size / RATE
    assert over(64, 8).seconds("reduce_scatter", "recursive_halving", size) == pytest.approx(expected)


def test_direct_algorithms_send_a_share_to_everybody_elsewhere() -> None:
    size, pairs = 1 << 20, 8 * 56
    expected = ALPHA + pairs * 1e-9 + pairs * size / 64 / RATE
    assert over(64, 8, gap=1e-9).seconds("all_gather", "one_shot", size) == pytest.approx(expected)
    expected = ALPHA + 56 * 1e-9 + 56 * size / RATE  # the root alone sends
    assert over(64, 8, gap=1e-9).seconds("broadcast", "one_shot", size) == pytest.approx(expected)


@given(
    collective=st.sampled_from(COLLECTIVES),
    hosts=st.sampled_from([2, 3, 8, 128]),
    each=st.sampled_from([1, 2, 6, 8]),
    size=st.integers(8, 1 << 32),
)
def test_every_algorithm_has_a_price_that_grows_with_the_network(
    collective: str, hosts: int, each: int, size: int
) -> None:
    ranks = hosts * each
    free = over(ranks, hosts, alpha=0, bandwidth=FREE).times(collective, size)
    slow = over(ranks, hosts).times(collective, size)
    slower = over(ranks, hosts, alpha=2 * ALPHA, bandwidth=RATE / 2).times(collective, size)
    for name in rt.algorithms(collective):
        assert 0 <= free[name] < slow[name] < slower[name] < math.inf


def test_an_algorithm_that_is_not_known_is_charged_with_all_that_it_declares() -> None:
    cost = _core.cost("all_reduce", "ring", 8, 1 << 20)
    found = crossing("all_reduce", "written yesterday", Spread(8, 2, 1 << 20, cost, 1))
    assert (found.steps, found.sent_bytes) == (cost.steps, 4 * cost.bytes_per_link)


# Constants


def test_bandwidth_lies_between_what_is_known_of_smaller_and_larger_arrays() -> None:
    constants = Constants(STEP, {1 << 10: 16e9, 1 << 20: 4e9})
    assert constants.bandwidth_at(1 << 15) == pytest.approx(8e9)
    assert constants.bandwidth_at(8) == pytest.approx(16e9)
    assert constants.bandwidth_at(1 << 40) == pytest.approx(4e9)


def test_constants_are_read_as_they_were_written(tmp_path: Path) -> None:
    constants = Constants(STEP, {1 << 10: 16e9, 1 << 20: 4e9}, 2e-6, {"ring": 1.5}, "measured")
    write_constants(tmp_path / "c.json", constants, world=2)
    assert read_constants(tmp_path / "c.json") == constants


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "step": "quick"}'])
def test_a_file_without_constants_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json holds no constants of ringtree plan --save"):
        read_constants(tmp_path / "c.json")


# Crossovers


def test_a_crossover_is_found_where_the_times_are_equal() -> None:
    def times(size: int) -> dict[str, float]:
        return {"quick": 10 + size, "wide": 5000 + size / 2, "never": 1e9}

    (found,) = crossovers(times, [8, 64, 1 << 20])
    assert (found.before, found.after) == ("quick", "wide")
    assert found.size == pytest.approx(9980, rel=2e-3)


def test_every_crossover_between_two_sizes_is_found() -> None:
    def times(size: int) -> dict[str, float]:
        return {"a": size, "b": 100 + size / 10, "c": 1000 + size / 100}

    found = crossovers(times, [1, 1 << 20])
    assert [(change.before, change.after) for change in found] == [("a", "b"), ("b", "c")]
    assert [change.size for change in found] == pytest.approx([111, 10_000], rel=1e-2)


def test_where_nothing_is_overtaken_there_is_no_crossover() -> None:
    assert crossovers(lambda size: {"a": size, "b": 2 * size}, [1, 1000]) == []


# The drawing


@given(
    heights=st.lists(st.floats(0, 1), max_size=12).map(sorted),
    distance=st.floats(0.01, 0.05),
)
def test_labels_keep_their_distance_and_their_order(heights: list[float], distance: float) -> None:
    spread = spread_out(heights, distance)
    assert len(spread) == len(heights)
    assert all(high - low > distance * 0.999 for low, high in pairwise(spread))
    assert all(height <= 1 + 1e-9 for height in spread)


def test_labels_that_have_room_stay() -> None:
    assert spread_out([0.1, 0.5, 0.9], 0.05) == pytest.approx([0.1, 0.5, 0.9])


# The command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, arguments)


CLUSTER = ["--ranks", "1024", "--hosts", "128", "--alpha", "5us", "--bandwidth", "50GB/s"]


def test_it_prints_a_row_for_each_size_and_where_algorithms_cross() -> None:
    result = run(*CLUSTER, "--sizes", "8:1M:8")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    rows = [line.split() for line in lines if not line.startswith("#")]
    assert [row[0] for row in rows] == ["8", "64", "512", "4K", "32K", "256K"]
    assert all(row[-1] in rt.algorithms("all_reduce") for row in rows)
    assert any(" overtakes " in line for line in lines)
    assert "# all_reduce, 1024 ranks on 128 hosts, 8 each, predicted" in lines


@pytest.mark.parametrize("collective", COLLECTIVES)
def test_every_collective_can_be_planned(collective: str) -> None:
    result = run(*CLUSTER, "--collective", collective, "--sizes", "8:1G:1024")
    assert result.exit_code == 0, result.output


def test_json_holds_times_crossovers_and_what_they_follow_from(tmp_path: Path) -> None:
    path = tmp_path / "new" / "plan.json"
    assert run(*CLUSTER, "--sizes", "8:1M:8", "--json", str(path)).exit_code == 0
    found = json.loads(path.read_text())
    job = Job(1024, built_in(), Network(128, 5e-6, 50e9, 10e-9, 256 << 10))
    assert found["rows"][2] == {"size": 512, "times": pytest.approx(job.times("all_reduce", 512))}
    assert [Crossover(**change) for change in found["crossovers"]] == crossovers(
        lambda size: job.times("all_reduce", size), [row["size"] for row in found["rows"]]
    )


def test_the_drawing_names_every_line_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        assert run(*CLUSTER, "--plot", str(path)).exit_code == 0
    text = "".join(ElementTree.parse(paths[0]).getroot().itertext())
    assert all(name in text for name in rt.algorithms("all_reduce"))
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "how many ranks? Write --ranks 8"),
        (["--ranks", "8", "--alpha", "5us"], "--alpha and --bandwidth hold between hosts"),
        (["--ranks", "8", "--hosts", "2", "--alpha", "5us"], "several hosts need --alpha and --bandwidth"),
        (["--ranks", "9", "--hosts", "2"], "9 ranks cannot be spread evenly over 2 hosts"),
        ([*CLUSTER, "--alpha", "5"], "'5' is not a time"),
        ([*CLUSTER, "--bandwidth", "fast"], "'fast' is not a bandwidth"),
        ([*CLUSTER, "--piece", "half"], "'half' is not a size"),
        ([*CLUSTER, "--intra-alpha", "x"], "'x' is not a time"),
        ([*CLUSTER, "--sizes", "8:4"], "'8:4' starts above its end"),
        ([*CLUSTER, "--save", "x.json"], "--save keeps what --measure finds"),
        ([*CLUSTER, "--plot", "x.txt"], "the name must end in .png, .svg, .pdf"),
        (["--measure", "-n", "1"], "a single rank hands nothing over"),
        (["--measure", "-n", "1", "--hosts", "2"], "--measure finds the constants inside this host"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: list[str], complaint: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert complaint in result.output
    assert len(result.output.splitlines()) == 1
