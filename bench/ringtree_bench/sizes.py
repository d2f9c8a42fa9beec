"""Message sizes as people write them: `8:256M`, `1K:1M:4`, `8,64K,1M`."""

_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes of `8`, `64K`, `256M`, `1.5G` or `64KiB` (binary units, as nccl-tests reads them)."""
    digits = text.strip().upper().removesuffix("IB").removesuffix("B")
    unit = _UNITS.get(digits[-1:], 1)
    try:
        size = float(digits[:-1] if unit > 1 else digits) * unit
    except ValueError:
        raise ValueError(f"{text!r} is not a size: write bytes, or a number with K, M or G") from None
    if not size.is_integer() or size < 1:
        raise ValueError(f"{text!r} is not a whole, positive number of bytes")
    return int(size)


def parse_sizes(text: str) -> tuple[int, ...]:
    """The sizes, ascending, that `first:last[:factor]` or a comma-separated list of sizes names.

    The factor is 2 where none is given. `last` is part of the range only where the factor leads to it, as in
    nccl-tests.
    """
    if ":" not in text:
        return tuple(sorted({parse_size(part) for part in text.split(",")}))
    first_text, last_text, *factor_text = text.split(":")
    if len(factor_text) > 1:
        raise ValueError(f"{text!r} has too many colons: write first:last or first:last:factor")
    first, last = parse_size(first_text), parse_size(last_text)
    factor = int(factor_text[0]) if factor_text and factor_text[0].isdecimal() else 0 if factor_text else 2
    if factor < 2:
        raise ValueError(f"{text!r}: the factor must be a whole number of at least 2")
    if first > last:
        raise ValueError(f"{text!r} starts above its end")
    sizes = []
    while first <= last:
        sizes.append(first)
        first *= factor
    return tuple(sizes)


def format_size(nbytes: int) -> str:
    """`nbytes` the short way, `256M`, as far as that is exact to three digits."""
    for unit, scale in reversed(_UNITS.items()):
        if nbytes >= scale:
            return f"{nbytes / scale:.3g}{unit}"
    return str(nbytes)
