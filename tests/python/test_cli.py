import os
import subprocess
import sys

import ringtree as rt
from click.testing import CliRunner
from ringtree.cli import main


def test_info_says_what_was_found():
    result = CliRunner().invoke(main, ["info"])
    assert result.exit_code == 0
    for expected in (rt.__version__, "shm, threads", "SIMD", "/dev/shm", "alone (rank 0 of 1)"):
        assert expected in result.output


def test_info_explains_a_half_set_environment():
    result = CliRunner().invoke(main, ["info"], env={"RANK": "1"})
    assert "WORLD_SIZE is not" in result.output


def test_info_explains_an_unknown_instruction_set():
    environment = {**os.environ, "RINGTREE_SIMD": "mmx"}  # read once in a process, so in one of its own
    command = [sys.executable, "-m", "ringtree", "info"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    assert "InvalidArgument: RINGTREE_SIMD=mmx is not among what this machine can run: " in result.stdout


def test_info_is_printed_by_rank_0_alone():
    for rank, lines in (("0", True), ("1", False)):
        result = CliRunner().invoke(main, ["info"], env={"RANK": rank, "WORLD_SIZE": "2"})
        assert bool(result.output) is lines


def test_the_suite_is_loaded_when_it_is_called():
    result = CliRunner().invoke(main, ["bench", "--help"])
    assert result.exit_code == 0
    assert "--collective" in result.output


def test_a_suite_that_cannot_be_loaded_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ringtree_bench.tune", None)
    result = CliRunner().invoke(main, ["tune"])
    assert result.exit_code == 1
    assert "Error: `ringtree tune` cannot be loaded" in result.output
    assert "pip install 'ringtree[bench]'" in result.output


def test_errors_of_ringtree_take_one_line(tmp_path):
    result = CliRunner().invoke(main, ["bench", "-n", "1"], env={"WORLD_SIZE": "2"})
    assert result.exit_code == 1
    assert result.output == "Error: InvalidArgument: WORLD_SIZE is set but RANK is not: set both or neither\n"


def test_help_lists_the_commands_that_are_loaded_later():
    result = CliRunner().invoke(main, ["--help"])
    for command in ("bench", "info", "tune"):
        assert command in result.output
