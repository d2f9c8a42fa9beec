import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
LAUNCHERS = {
    "alone": [],
    "mpirun": ["mpirun", "-n", "2", "--map-by", ":OVERSUBSCRIBE", "--bind-to", "none"],
    "torchrun": ["torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"],
}


def run(launcher, program, *arguments):
    command = LAUNCHERS[launcher]
    if command and shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not on PATH")
    result = subprocess.run(
        [*command, sys.executable, str(EXAMPLES / program), *arguments],
        env=os.environ | AS_ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize(("launcher", "world"), [("alone", 1), ("mpirun", 2), ("torchrun", 2)])
def test_the_first_example_sums_over_the_ranks_of_every_launcher(launcher, world):
    # torchrun makes its ranks' output unbuffered, so their line ends may come in another order.
    said = re.findall(r"rank [^\]]*\]", run(launcher, "01_all_reduce.py"))
    total = sum(range(1, world + 1))
    assert sorted(said) == [f"rank {r} of {world}: {np.full(4, total, np.float32)}" for r in range(world)]


def test_digits_trains_alike_on_one_and_two_ranks(tmp_path):
    parameters = []
    for launcher in ("alone", "mpirun"):
        file = tmp_path / f"{launcher}.npy"
        assert "the same bits on every rank" in run(launcher, "02_digits.py", "--save", str(file))
        parameters.append(np.load(file))
    np.testing.assert_allclose(*parameters, atol=0.05)
