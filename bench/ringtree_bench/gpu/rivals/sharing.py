"""Whether NCCL takes several ranks of one GPU, and how it is told to.

From 2.30.3 on it does, if the environment says so and the ranks are processes. Each must then take fewer
blocks, as all of them have to be resident at once. It gets as many as ringtree takes there, so that like is
held against like: the channels that the fabric has opened.
"""

import os
from collections.abc import Mapping

_SHARES_FROM = (2, 30, 3)
_MOST_BLOCKS = "NCCL_MAX_CTAS"  # of one rank; NCCL itself goes no further than its 64 channels


def refusal_to_share(version: tuple[int, ...], sharing: int) -> str:
    """Why this NCCL cannot run with so many ranks on one GPU; empty if it can."""
    if sharing == 1 or tuple(version) >= _SHARES_FROM:
        return ""
    return (
        f"NCCL {'.'.join(map(str, version))} refuses several ranks on one GPU "
        f"({'.'.join(map(str, _SHARES_FROM))} and later take them)"
    )


def sharing_settings(sharing: int, channels: int) -> dict[str, str]:
    """NCCL's variables for so many ranks on one GPU, of which each has so many of ringtree's channels."""
    if sharing == 1:
        return {}
    return {"NCCL_MULTI_RANK_GPU_ENABLE": "1", _MOST_BLOCKS: str(channels)}


def most_blocks(environment: Mapping[str, str] = os.environ) -> int | None:
    """The most blocks of one rank that NCCL has been told to take; None: it decides by itself."""
    said = environment.get(_MOST_BLOCKS, "")
    return int(said) if said.isdecimal() else None
