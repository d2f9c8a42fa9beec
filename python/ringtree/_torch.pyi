"""ringtree._torch: the process group backend in C++ (csrc/torch), there if it was built beside PyTorch."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

PYTORCH: str  # the release that it was built against, "2.13.0"

class Options:
    """What a group was made with; torch.distributed's Backend.Options that can be copied."""

    def __copy__(self) -> Options: ...
    def __deepcopy__(self, memo: dict[int, Any]) -> Options: ...

class ProcessGroupRingtree:
    """ringtree as a backend of torch.distributed; a torch.distributed.Backend."""

    @property
    def options(self) -> Options: ...
    def get_error(self) -> Any: ...
    def _set_default_timeout(self, timeout: timedelta) -> None: ...

def create(
    store: Any,
    rank: int,
    size: int,
    timeout: timedelta,
    settings: str,
    choose: Callable[[str, int], tuple[list[tuple[str, list[tuple[int, str]]]], list[tuple[str, str]], str]],
    name: str,
) -> ProcessGroupRingtree:
    """Make a process group's backend; a collective.

    `choose(settings, size)` gets rank 0's settings and says what "auto" takes: rules, forced
    algorithms, faults.
    """
