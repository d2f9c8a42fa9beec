"""Sizes as people write them."""

import pytest
from ringtree_bench.sizes import format_size, parse_size, parse_sizes


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("8", 8),
        ("64K", 65536),
        ("64k", 65536),
        ("64KiB", 65536),
        ("1.5M", 3 << 19),
        ("2G", 2 << 30),
        ("7B", 7),
    ],
)
def test_a_size_is_read_in_binary_units(text: str, nbytes: int) -> None:
    assert parse_size(text) == nbytes


def test_a_range_doubles_unless_a_factor_is_given() -> None:
    assert parse_sizes("8:64") == (8, 16, 32, 64)
    assert parse_sizes("1K:1M:32") == (1 << 10, 1 << 15, 1 << 20)


def test_a_range_ends_at_the_last_size_that_the_factor_reaches() -> None:
    assert parse_sizes("8:100:3") == (8, 24, 72)


def test_a_list_is_sorted_and_without_doubles() -> None:
    assert parse_sizes("1M,8,64K,8") == (8, 1 << 16, 1 << 20)


def test_the_default_range_meets_the_sizes_that_results_are_quoted_at() -> None:
    assert {1 << 16, 1 << 20, 256 << 20} <= set(parse_sizes("8:256M"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not a size"),
        ("8:", "is not a size"),
        ("eight", "'eight' is not a size"),
        ("-8", "not a whole, positive number"),
        ("0", "not a whole, positive number"),
        ("0.3K", "not a whole, positive number"),
        ("inf", "not a whole, positive number"),
        ("8:4", "starts above its end"),
        ("8:64:1", "the factor must be a whole number of at least 2"),
        ("8:64:x", "the factor must be a whole number of at least 2"),
        ("8:64:2:2", "too many colons"),
    ],
)
def test_a_malformed_size_is_refused_with_its_text(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_sizes(text)


@pytest.mark.parametrize("text", ["8", "1K", "64K", "1.5M", "256M", "2G"])
def test_formatting_a_size_undoes_parsing_it(text: str) -> None:
    assert format_size(parse_size(text)) == text
