import pytest
import ringtree as rt
from ringtree.launch import Launch, detect, timeout_of

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}
HYDRA = {"PMI_RANK": "0", "PMI_SIZE": "2"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8"}
STEP = {"SLURM_STEP_ID": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Launch(0, 1, "alone")),
        (TORCHRUN, Launch(1, 4, "torchrun")),
        (OPEN_MPI, Launch(2, 3, "mpirun")),
        (HYDRA, Launch(0, 2, "mpirun")),
        (SLURM | STEP, Launch(5, 8, "slurm")),
        (SLURM, Launch(0, 1, "alone")),
        (SLURM | STEP | HYDRA, Launch(0, 2, "mpirun")),
        (SLURM | STEP | HYDRA | OPEN_MPI, Launch(2, 3, "mpirun")),
        (SLURM | STEP | HYDRA | OPEN_MPI | TORCHRUN, Launch(1, 4, "torchrun")),
    ],
)
def test_launchers_are_asked_in_order_and_slurm_only_inside_a_step(environment, expected):
    assert detect(environment) == expected


@pytest.mark.parametrize("environment", [TORCHRUN, OPEN_MPI, HYDRA])
def test_a_half_set_environment_names_the_missing_variable(environment):
    for missing in environment:
        rest = {name: value for name, value in environment.items() if name != missing}
        with pytest.raises(rt.InvalidArgument, match=f"{next(iter(rest))} is set but {missing} is not"):
            detect(rest)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": "one"}, "RANK='one' is no number"),
        ({"RANK": "4"}, "RANK=4 is no rank where WORLD_SIZE=4"),
        ({"RANK": "-1"}, "RANK=-1 is no rank"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0 is no world size"),
    ],
)
def test_a_bad_value_is_named(changed, message):
    with pytest.raises(rt.InvalidArgument, match=message):
        detect(TORCHRUN | changed)


def test_the_timeout_is_what_was_given_then_the_variable_then_five_minutes():
    assert timeout_of(2, {"RINGTREE_TIMEOUT": "7"}) == 2
    assert timeout_of(None, {"RINGTREE_TIMEOUT": "7.5"}) == 7.5
    assert timeout_of(None, {}) == 300
    for bad in ("soon", "0", "-1", "inf", "nan"):
        with pytest.raises(rt.InvalidArgument, match="RINGTREE_TIMEOUT"):
            timeout_of(None, {"RINGTREE_TIMEOUT": bad})
