"""`ringtree ddp`: training steps with Gloo and with ringtree, in turns."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from ringtree_bench.ddp import ddp, line_of


def test_steps_of_both_backends_are_measured(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "ringtree", "ddp", "-n", "2", "--rounds", "3", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["model"] for row in rows] == ["resnet", "gpt"]
    for row in rows:
        assert row["ranks"] == 2
        assert {"date", "machine", "versions"} <= set(row)
        assert row["parameters"] > 10_000_000
        assert all(row[name] > 0 for name in ("alone", "silent", "gloo", "ringtree"))
    assert len([line for line in done.stdout.splitlines() if line[0] != "#"]) == 2


def test_a_row_holds_ratios_of_the_step_and_of_what_communication_adds() -> None:
    row = {"model": "gpt", "parameters": 1000, "alone": 0.09, "silent": 0.1, "gloo": 0.2, "ringtree": 0.125}
    cells = [*("gpt", "1000"), *("90.0", "100.0", "200.0", "125.0"), "1.60x", *("100.0", "25.0"), "4.0x"]
    assert line_of(row).split() == [*cells, "3.1x"]


def test_a_step_that_is_no_slower_than_the_one_without_has_no_ratio_to_it() -> None:
    row = {"model": "gpt", "parameters": 1000, "alone": 0.09, "silent": 0.1, "gloo": 0.2, "ringtree": 0.099}
    cells = [*("gpt", "1000"), *("90.0", "100.0", "200.0", "99.0"), "2.02x", *("100.0", "-1.0"), "-"]
    assert line_of(row).split() == [*cells, "12.2x"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--models", "bert"], "there is no model 'bert'; there are resnet, gpt"),
        (["--rounds", "1"], "rounds"),
    ],
)
def test_options_that_make_no_sense_are_explained(arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(ddp, ["-n", "1", *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
