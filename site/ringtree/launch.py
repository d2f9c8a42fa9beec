"""Which rank this process is, from what its launcher has left in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from ringtree.errors import InvalidArgument


@dataclass(frozen=True)
class Launch:
    """A rank's place in the world, and how it knows."""

    rank: int
    world: int
    launcher: str  # "torchrun", like everybody who sets RANK and WORLD_SIZE, "mpirun", "slurm" or "alone"


# In the order in which they are asked. RANK comes first: whoever sets it under another launcher means it.
_SOURCES = (
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpirun", "PMI_RANK", "PMI_SIZE"),  # MPICH, Intel MPI
    ("slurm", "SLURM_PROCID", "SLURM_NTASKS"),
)


def detect(environment: Mapping[str, str]) -> Launch:
    """The rank and the world size that `environment` tells of; a world of one if it tells nothing.

    Raises:
        InvalidArgument: one of a pair of variables is missing, or a value makes no sense; names the variable.
    """
    for launcher, rank_name, world_name in _SOURCES:
        if launcher == "slurm" and "SLURM_STEP_ID" not in environment:
            continue  # the script that sbatch runs has Slurm's other variables too, but is no rank
        given = [name for name in (rank_name, world_name) if name in environment]
        if len(given) == 1:
            missing = world_name if given[0] == rank_name else rank_name
            raise InvalidArgument(f"{given[0]} is set but {missing} is not: set both or neither")
        if given:
            rank, world = _integer(environment, rank_name), _integer(environment, world_name)
            if world < 1:
                raise InvalidArgument(f"{world_name}={world} is no world size: it must be 1 or more")
            if not 0 <= rank < world:
                raise InvalidArgument(
                    f"{rank_name}={rank} is no rank where {world_name}={world}: it must be 0 to {world - 1}"
                )
            return Launch(rank, world, launcher)
    return Launch(0, 1, "alone")


def timeout_of(given: float | None, environment: Mapping[str, str]) -> float:
    """Seconds that bound every wait: `given`, else RINGTREE_TIMEOUT, else 300.

    Raises:
        InvalidArgument: it is not a number of seconds above 0.
    """
    value: float | str
    if given is not None:
        name, value = "timeout", given
    else:
        name, value = "RINGTREE_TIMEOUT", environment.get("RINGTREE_TIMEOUT", "300")
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidArgument(f"{name}={value!r} is no timeout: it must be a number of seconds above 0")
    return seconds


def _integer(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise InvalidArgument(f"{name}={environment[name]!r} is no number") from None
