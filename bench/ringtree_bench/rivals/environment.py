"""A virtual environment with an MPI of its own, and how its mpirun is told to start a rival's processes."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ringtree_bench import worker

FOLDER_VARIABLE = "RINGTREE_RIVALS"
_ASKING_SECONDS = 20.0

# What a launcher around the suite has set for the suite's own ranks; the rival's launcher must not see it.
_LAUNCHED = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "RINGTREE_",
    "OMPI_", "PMI_", "PMIX_", "PRTE_", "OPAL_", "HYDRA_", "HYDI_", "MPI_LOCAL", "MPI4PY_", "PYTHON",
    "I_MPI_INFO_", "I_MPI_HYDRA_", "I_MPI_MPIRUN", "I_MPI_ROOT", "I_MPI_PIN_INFO", "I_MPI_PIN_MAPPING",
)  # fmt: skip
_USERS_OPEN_MPI = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_MCA_")  # of OMPI_..., what the user sets


@dataclass(frozen=True)
class Launcher:
    """What one family of mpirun needs here; `settings` hold where the user has not set them."""

    mark: str  # in what `mpirun --version` prints
    options: tuple[str, ...]
    settings: Mapping[str, str]


# The settings are each library's natural ones on one host, so that the rival is at its best.
LAUNCHERS = (
    Launcher("Intel(R) MPI", (), {"I_MPI_FABRICS": "shm"}),
    Launcher("Open MPI", ("--map-by", ":OVERSUBSCRIBE"), {}),
    Launcher("", (), {}),
)


@dataclass(frozen=True)
class Environment:
    """A rival's name, and the folder of its virtual environment if one was given."""

    name: str
    folder: Path | None

    def problem(self) -> str:
        """Why no process can be started from it; empty when one can."""
        if self.folder is None:
            return f"where is its environment? Write {self.name}=VENV, or set {FOLDER_VARIABLE} to its parent"
        if not self.folder.is_dir():
            return f"there is no folder {self.folder}"
        for program, what in ((self.python, "a virtual environment"), (self.mpirun, "an MPI")):
            if not os.access(program, os.X_OK):
                return f"{self.folder} is without {what}: no bin/{program.name} to run"
        return ""

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return Path(self.folder or "", "bin", "python")

    @property
    def mpirun(self) -> Path:
        """Its launcher."""
        return Path(self.folder or "", "bin", "mpirun")

    def launcher(self, variables: Mapping[str, str]) -> Launcher:
        """The family of its mpirun, which is asked with these variables.

        Raises:
            OSError: it cannot be run.
            subprocess.SubprocessError: it does not answer.
        """
        answer = subprocess.run(
            [self.mpirun, "--version"], env=variables, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=_ASKING_SECONDS, check=False,
        )  # fmt: skip
        return next(known for known in LAUNCHERS if known.mark in answer.stdout + answer.stderr)

    def variables(self, around: Mapping[str, str]) -> dict[str, str]:
        """The suite's own variables, but for what makes it one rank of another launcher's job."""
        found = {name: value for name, value in around.items() if not _is_launchers(name)}
        found["VIRTUAL_ENV"] = str(self.folder)
        found["PATH"] = f"{self.mpirun.parent}:{around.get('PATH', os.defpath)}"
        libraries = around.get("LD_LIBRARY_PATH")
        found["LD_LIBRARY_PATH"] = f"{self.folder}/lib" + (f":{libraries}" if libraries else "")
        return found

    def command(self, launcher: Launcher, ranks: int, meeting_place: str) -> list[str]:
        """How its mpirun starts `ranks` workers that meet the suite in the folder `meeting_place`.

        Python runs isolated (-I): it sees nothing of the environment that the suite runs in.
        """
        program = [str(self.python), "-I", worker.__file__, meeting_place]
        return [str(self.mpirun), *launcher.options, "-n", str(ranks), *program]


def _is_launchers(name: str) -> bool:
    return name.startswith(_LAUNCHED) and not name.startswith(_USERS_OPEN_MPI)


def parse_against(text: str, variables: Mapping[str, str]) -> list[Environment]:
    """The rivals that `NAME=VENV,NAME,...` names; one without a folder lies below $RINGTREE_RIVALS.

    Raises:
        ValueError: a name is missing or stands there twice.
    """
    found: dict[str, Environment] = {}
    parent = variables.get(FOLDER_VARIABLE)
    for part in text.split(","):
        name, given, folder = (piece.strip() for piece in part.partition("="))
        if not name or (given and not folder):
            raise ValueError(
                f"--against {text}: write NAME=VENV, or NAME with its parent in {FOLDER_VARIABLE}"
            )
        if name in found:
            raise ValueError(f"--against {text}: there are two called {name}")
        place = Path(folder).expanduser().absolute() if folder else Path(parent, name) if parent else None
        found[name] = Environment(name, place)
    return list(found.values())
