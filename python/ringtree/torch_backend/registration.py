"""How torch.distributed comes to know the backend, and how it makes one."""

import os
import re
from datetime import timedelta
from typing import Any

from ringtree.errors import InvalidArgument, TransportError
from ringtree.tuning import ON_GPU, Rules, Settings, read_settings

NAME = "ringtree"
DEVICES = ("cpu", "cuda")  # whose tensors it moves


def register() -> None:
    """Make the backend known to torch.distributed; again, it changes nothing.

    PyTorch was built without torch.distributed: then there is nothing to register with.
    """
    import torch.distributed as dist

    if dist.is_available() and NAME not in dist.Backend.backend_list:
        dist.Backend.register_backend(NAME, create, extended_api=True, devices=list(DEVICES))


def create(options: Any, group_options: Any) -> Any:
    """A group's backend, for torch.distributed; a collective of its ranks.

    Args:
        options: c10d's DistributedBackendOptions.
        group_options: what the program passed as `pg_options`; a timeout there holds instead.

    Raises:
        ValueError: something is wrong with the user's settings.
        DistBackendError: the ranks cannot reach one another; says why.
        TransportError: this ringtree does not fit this PyTorch; says what to do.
    """
    timeout = getattr(group_options, "_timeout", None) or options.timeout
    return open_backend(options.store, options.group_rank, options.group_size, timeout)


def open_backend(store: Any, rank: int, size: int, timeout: timedelta, name: str = NAME) -> Any:
    """What create() returns, from the same facts one by one; under another name, for PyTorch's own tests."""
    settings = read_settings().encode().decode() if rank == 0 else ""
    return _core().create(store, rank, size, timeout, settings, choose, name)


def choose(
    settings: str, size: int
) -> tuple[
    list[tuple[str, Rules]], list[tuple[str, Rules]], list[tuple[str, int]], list[tuple[str, str]], str
]:
    """What rank 0's settings mean for `size` ranks.

    Returns:
        Rules, those for GPUs, up to how many bytes calls go in packets there, forced algorithms, faults.

    Raises:
        ValueError: something is wrong with them.
    """
    shared = Settings.decode(settings.encode())
    try:
        rules = list(shared.rules_for("shm" if size > 1 else "threads", size))
        on_gpu, packets = list(shared.rules_for(ON_GPU, size)), list(shared.packets_for(size))
    except InvalidArgument as error:
        raise ValueError(str(error)) from None
    return rules, on_gpu, packets, list(shared.forced.items()), os.environ.get("RINGTREE_FAULT", "")


def _core() -> Any:
    """The C++ part. It may load beside another release than its own, whose classes are laid out otherwise."""
    import torch

    try:
        import ringtree._torch as core
    except ImportError as error:
        raise _misfit(error) from None
    release = re.match(r"[\d.]*\d", torch.__version__)
    if release is None or release[0] != core.PYTORCH:
        raise _misfit(f"it was built against {core.PYTORCH}")
    return core


def _misfit(why: object) -> TransportError:
    import torch

    return TransportError(
        f"the backend ringtree does not work with this PyTorch, {torch.__version__} ({why}): "
        "build ringtree where this PyTorch is installed, "
        "pip install --no-build-isolation --force-reinstall ringtree"
    )
