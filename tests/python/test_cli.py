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


def test_help_lists_the_commands_that_are_loaded_later():
    result = CliRunner().invoke(main, ["--help"])
    for command in ("bench", "info", "tune"):
        assert command in result.output
