"""Whether NCCL takes several ranks of one GPU, and how it is told to.

From 2.30.3 on it does, if the environment says so and the ranks are processes. Each must then take fewer
blocks: all of them have to be resident at once.
"""

_SHARES_FROM = (2, 30, 3)
_MOST_BLOCKS = 32  # NCCL's own choice, at most, for a rank that has a GPU to itself


def refusal_to_share(version: tuple[int, ...], sharing: int) -> str:
    """Why this NCCL cannot run with so many ranks on one GPU; empty if it can."""
    if sharing == 1 or tuple(version) >= _SHARES_FROM:
        return ""
    return (
        f"NCCL {'.'.join(map(str, version))} refuses several ranks on one GPU "
        f"({'.'.join(map(str, _SHARES_FROM))} and later take them)"
    )


def sharing_settings(sharing: int) -> dict[str, str]:
    """NCCL's variables for so many ranks on one GPU."""
    if sharing == 1:
        return {}
    return {"NCCL_MULTI_RANK_GPU_ENABLE": "1", "NCCL_MAX_CTAS": str(max(1, _MOST_BLOCKS // sharing))}
