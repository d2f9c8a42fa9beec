"""Gradient buckets of real models: what DistributedDataParallel reduces in one training step.

Shapes are those of torchvision's `resnet50` and of Hugging Face's `gpt2` (124 M parameters, the output layer
tied to the embedding), in the order in which the modules register them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod

from ringtree_bench import dtypes
from ringtree_bench.cases import Case
from ringtree_bench.collectives import COLLECTIVES

# torch.distributed's defaults: _DEFAULT_FIRST_BUCKET_BYTES, and bucket_cap_mb of DistributedDataParallel
FIRST_BUCKET_BYTES = 1 << 20
BUCKET_BYTES = 25 << 20

Shape = tuple[int, ...]


def resnet50() -> Iterator[Shape]:
    """He et al., 2016: stages of 3, 4, 6 and 3 bottleneck blocks."""

    def convolution(outputs: int, inputs: int, kernel: int) -> Iterator[Shape]:
        yield (outputs, inputs, kernel, kernel)
        yield from [(outputs,), (outputs,)]  # its batch norm

    yield from convolution(64, 3, 7)
    inputs = 64
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            yield from convolution(width, inputs, 1)
            yield from convolution(width, width, 3)
            yield from convolution(4 * width, width, 1)
            if block == 0:
                yield from convolution(4 * width, inputs, 1)  # the projection of the shortcut
            inputs = 4 * width
    yield from [(1000, inputs), (1000,)]


def gpt2_small() -> Iterator[Shape]:
    """Radford et al., 2019: 12 layers of width 768, 50257 tokens, 1024 positions."""
    width = 768
    norm = [(width,), (width,)]
    yield from [(50257, width), (1024, width)]
    for _ in range(12):
        yield from norm
        yield from [(width, 3 * width), (3 * width,), (width, width), (width,)]
        yield from norm
        yield from [(width, 4 * width), (4 * width,), (4 * width, width), (width,)]
    yield from norm


@dataclass(frozen=True)
class Model:
    """A model by name and by the shapes of its parameters."""

    name: str
    shapes: Callable[[], Iterator[Shape]]


MIXES = {"gradients": (Model("ResNet-50", resnet50), Model("GPT-2 small", gpt2_small))}


def buckets(shapes: Iterator[Shape], item_bytes: int) -> list[int]:
    """Elements of each bucket, in the order in which a training step reduces them.

    Gradients arrive from the last layer to the first; DistributedDataParallel closes a bucket as soon as it
    holds its limit, the first at 1 MiB so that communication starts early, the others at 25 MiB.
    """
    filled, limit = [0], FIRST_BUCKET_BYTES
    for shape in reversed(list(shapes)):
        if filled[-1] * item_bytes >= limit:
            filled.append(0)
            limit = BUCKET_BYTES
        filled[-1] += prod(shape)
    return filled


def cases_of_mix(mix: str, dtype: str, op: str, world: int) -> list[Case]:
    """A case for each model of `mix`: all its buckets, one after the other."""
    item = dtypes.item_bytes(dtype)
    return [
        Case(COLLECTIVES["all_reduce"], world, dtype, op, tuple(buckets(model.shapes(), item)), model.name)
        for model in MIXES[mix]
    ]
