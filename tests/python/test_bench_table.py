"""The table's text, and its numbers as nccl-tests would print them."""

import pytest
from ringtree_bench.cases import Case
from ringtree_bench.collectives import COLLECTIVES
from ringtree_bench.rounds import Timing
from ringtree_bench.table import Layout, Row, describe, format_ratio, format_us

ALL_REDUCE = Case(COLLECTIVES["all_reduce"], 4, "float32", "sum", (262_144,))


def timing(*us: float, wrong: int = 0) -> Timing:
    return Timing(tuple(value * 1e-6 for value in us), 1, wrong)


def test_lines_stand_under_their_titles() -> None:
    layout = Layout(ALL_REDUCE, ["auto"], ["gloo", "mpi"])
    row = Row(ALL_REDUCE, "auto", timing(198, 200, 202), (timing(2468), timing(180)), 50e-6)
    assert [*layout.header(), layout.line(row)] == [
        "#      size       count     type  redop  algorithm     time   algbw   busbw  #wrong  spread    ideal"
        "      gloo   ratio       mpi   ratio",
        "#       (B)  (elements)                                (us)  (GB/s)  (GB/s)             (%)     (us)"
        "      (us)              (us)",
        "    1048576      262144  float32    sum       auto    200.0    5.24    7.86       0       2    50.00"
        "    2468.0   12.3x     180.0   0.90x",
    ]


def test_long_names_widen_their_column_only() -> None:
    layout = Layout(ALL_REDUCE, ["ring", "recursive_doubling"], [])
    row = Row(ALL_REDUCE, "recursive_doubling", timing(100), (), 0.0)
    titles, _ = layout.header()
    line = layout.line(row)
    for title, cell in (("redop", "sum"), ("algorithm", "recursive_doubling"), ("ideal", "-")):
        assert titles.index(title) + len(title) == line.rindex(cell) + len(cell)


def test_what_is_not_supported_is_a_dash_and_a_wrong_peer_is_marked() -> None:
    layout = Layout(ALL_REDUCE, ["auto"], ["gloo", "mpi"])
    line = layout.line(Row(ALL_REDUCE, "auto", timing(200, wrong=3), (None, timing(500, wrong=1)), 0.0))
    assert line.split() == [
        "1048576", "262144", "float32", "sum", "auto", "200.0", "5.24", "7.86", "3", "0", "-",
        "-", "-", "500.0!", "2.50x",
    ]  # fmt: skip
    refused = layout.line(Row(ALL_REDUCE, "ring", None, (None, timing(250)), 1e-6))
    assert refused.split()[5:] == ["-", "-", "-", "-", "-", "1.00", "-", "-", "250.0", "-"]


def test_wrong_elements_of_all_contenders_count() -> None:
    assert Row(ALL_REDUCE, "auto", timing(1, wrong=2), (None, timing(1, wrong=5)), 0.0).wrong == 7


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "-"), (1e-9, "<0.01"), (1.234e-6, "1.23"), (123.4e-6, "123.4"), (12.345e-3, "12345")],
)
def test_times_have_as_many_decimals_as_in_nccl_tests(seconds: float, text: str) -> None:
    assert format_us(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(0.5, "0.50x"), (3.456, "3.46x"), (45.6, "45.6x"), (456.7, "457x")]
)
def test_ratios_have_three_digits(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


def test_a_mix_is_described_by_its_buckets() -> None:
    case = Case(COLLECTIVES["all_reduce"], 2, "float32", "sum", (1 << 18, 1 << 20), "Tiny")
    assert describe(case) == "Tiny: 1310720 gradients in 2 buckets of up to 4M"
