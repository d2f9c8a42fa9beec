"""Which rank this process is, from what its launcher has left in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass

from ringtree.errors import InvalidArgument


@dataclass(frozen=True)
class Launch:
    """A rank's place in the world, and who put it there."""

    rank: int
    world: int
    launcher: str  # "torchrun" (or anyone who sets RANK and WORLD_SIZE), "mpirun", "slurm", "alone"


# In the order in which they are asked. torchrun's come first: they may be set on purpose under any other.
_SOURCES = (
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("mpirun", "PMI_RANK", "PMI_SIZE"),
    ("slurm", "SLURM_PROCID", "SLURM_NTASKS"),
)


def detect(environment: Mapping[str, str]) -> Launch:
    """The rank and the world size that `environment` tells of; a world of one if it tells nothing.

    Raises:
        InvalidArgument: one of a pair of variables is missing, or a value is not a rank or a size.
    """
    for launcher, rank_name, world_name in _SOURCES:
        if launcher == "slurm" and "SLURM_STEP_ID" not in environment:
            continue  # the shell of an sbatch script has Slurm's other variables too, but is no rank
        if rank_name not in environment and world_name not in environment:
            continue
        for name, other in ((rank_name, world_name), (world_name, rank_name)):
            if name not in environment:
                raise InvalidArgument(f"{other} is set but {name} is not: set both, or neither to run alone")
        rank, world = _integer(environment, rank_name), _integer(environment, world_name)
        if world < 1:
            raise InvalidArgument(f"{world_name}={world} is not a world size: it must be 1 or more")
        if not 0 <= rank < world:
            raise InvalidArgument(f"{rank_name}={rank} is not a rank of {world_name}={world}: it must be 0 to {world - 1}")
        return Launch(rank, world, launcher)
    return Launch(0, 1, "alone")


def timeout_from(environment: Mapping[str, str], given: float | None) -> float:
    """Seconds that bound every wait: `given`, or RINGTREE_TIMEOUT, or 300."""
    if given is not None:
        seconds, source = float(given), "timeout"
    else:
        source = "RINGTREE_TIMEOUT"
        text = environment.get(source, "300")
        try:
            seconds = float(text)
        except ValueError:
            raise InvalidArgument(f"{source}={text!r} is not a number of seconds") from None
    if not 0 < seconds < float("inf"):
        raise InvalidArgument(f"{source}={seconds} must be more than 0 seconds, and finite")
    return seconds


def _integer(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise InvalidArgument(f"{name}={environment[name]!r} is not a number") from None
