"""Times and bandwidths as people write them: `5us`, `50GB/s`, `400Gb/s`."""

import math
import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_NUMBER = r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*"


def parse_time(text: str) -> float:
    """Seconds of `5us`, `300ns`, `1.5 ms` or `0s`.

    Raises:
        ValueError: it is none of these.
    """
    found = re.fullmatch(_NUMBER + r"(ns|us|µs|ms|s)\s*", text)
    if not found:
        raise ValueError(f"{text!r} is not a time: write a number with ns, us, ms or s, as in 5us")
    return float(found[1]) * _SECONDS[found[2].replace("µ", "u")]


def parse_bandwidth(text: str) -> float:
    """Bytes per second of `50GB/s` (bytes), `400Gb/s` or `400Gbit/s` (bits), in powers of ten.

    Raises:
        ValueError: it is none of these, or nothing would ever arrive.
    """
    found = re.fullmatch(_NUMBER + r"([KkMGT]?)(B|b|bit)(?:/s|ps)\s*", text)
    if not found:
        raise ValueError(f"{text!r} is not a bandwidth: write 50GB/s for bytes or 400Gb/s for bits")
    rate = float(found[1]) * _SCALES[found[2].upper()] / (1 if found[3] == "B" else 8)
    if not 0 < rate < math.inf:
        raise ValueError(f"{text!r}: at this bandwidth nothing arrives")
    return rate


def format_time(seconds: float) -> str:
    """`950 ns`, `5 us`, `1.25 ms`, `43 s`: three digits."""
    for unit, scale in reversed(_SECONDS.items()):
        if seconds >= scale * 0.9995:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def format_bandwidth(rate: float) -> str:
    """`18 GB/s`: three digits."""
    return f"{rate / 1e9:.3g} GB/s"
