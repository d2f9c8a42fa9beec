"""Train a small network on handwritten digits, data-parallel, with one all_reduce of the gradients a step.

python examples/02_digits.py                                  # a world of one
mpirun -n 2 python examples/02_digits.py
torchrun --nproc-per-node 2 examples/02_digits.py

Every step takes the same 64 images whatever the number of ranks; each rank computes the gradient of its part
of them. So N ranks train the same network as one, up to the rounding of sums in another order.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import ringtree as rt
from sklearn.datasets import load_digits

Array = np.ndarray[Any, np.dtype[np.float32]]

HIDDEN, BATCH, EPOCHS, RATE, MOMENTUM = 64, 64, 30, 0.1, 0.9


@dataclass
class Split:
    """Images, a row each with 64 grey values from 0 to 1, and the digits they show."""

    images: Array
    digits: np.ndarray[Any, np.dtype[np.int64]]


def load() -> tuple[Split, Split]:
    """Training and held-out images, the same on every rank."""
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    images, digits = (data.data[order] / 16).astype(np.float32), data.target[order]
    held_out = len(order) // 5
    return Split(images[held_out:], digits[held_out:]), Split(images[:held_out], digits[:held_out])


class Network:
    """64 inputs, one hidden layer of rectifiers, 10 classes; its parameters lie in one array."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        shapes = [(64, HIDDEN), (HIDDEN,), (HIDDEN, 10), (10,)]
        self.parameters = np.zeros(sum(int(np.prod(shape)) for shape in shapes), np.float32)
        self.w1, self.b1, self.w2, self.b2 = self._views(self.parameters, shapes)
        self.w1[:] = random.normal(0, np.sqrt(2 / 64), self.w1.shape)
        self.w2[:] = random.normal(0, np.sqrt(2 / HIDDEN), self.w2.shape)
        self.gradient = np.zeros_like(self.parameters)
        self._gw1, self._gb1, self._gw2, self._gb2 = self._views(self.gradient, shapes)

    @staticmethod
    def _views(flat: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)]

    def scores(self, images: Array) -> tuple[Array, Array]:
        """What the hidden layer and the output layer make of `images`."""
        hidden = np.maximum(images @ self.w1 + self.b1, 0)
        return hidden, hidden @ self.w2 + self.b2

    def sum_gradients(self, batch: Split) -> None:
        """Set `gradient` to the sum, over the batch, of the cross-entropy's gradients."""
        hidden, scores = self.scores(batch.images)
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        error = odds / odds.sum(axis=1, keepdims=True)
        error[np.arange(len(batch.digits)), batch.digits] -= 1
        self._gw2[:], self._gb2[:] = hidden.T @ error, error.sum(axis=0)
        back = (error @ self.w2.T) * (hidden > 0)
        self._gw1[:], self._gb1[:] = batch.images.T @ back, back.sum(axis=0)

    def accuracy(self, split: Split) -> float:
        """The share of images that are recognised."""
        return float((self.scores(split.images)[1].argmax(axis=1) == split.digits).mean())


def train(comm: rt.Communicator, network: Network, data: Split) -> None:
    """Stochastic gradient descent with momentum; this rank works on every n-th image of each batch."""
    shuffle = np.random.default_rng(2)
    velocity = np.zeros_like(network.parameters)
    for _ in range(EPOCHS):
        order = shuffle.permutation(len(data.digits))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            mine = batch[comm.rank :: comm.world_size]
            network.sum_gradients(Split(data.images[mine], data.digits[mine]))
            comm.all_reduce(network.gradient)
            velocity = MOMENTUM * velocity + network.gradient / len(batch)
            network.parameters -= RATE * velocity


def bits_agree(comm: rt.Communicator, values: Array) -> bool:
    """Whether every rank holds the same bits."""
    own = np.frombuffer(hashlib.sha256(values.tobytes()).digest(), np.uint8)
    everyones = np.empty((comm.world_size, own.size), np.uint8)
    comm.all_gather(everyones, own)
    return bool((everyones == own).all())


def main() -> int:
    """Train, check, report from rank 0; the exit status says whether all is well."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--expect-accuracy", type=float, default=0.95, help="least held-out accuracy (%(default)s)"
    )
    parser.add_argument("--save", help="write rank 0's parameters to this .npy file")
    options = parser.parse_args()
    with rt.init() as comm:
        training, held_out = load()
        network = Network()
        train(comm, network, training)
        accuracy, same = network.accuracy(held_out), bits_agree(comm, network.parameters)
        if comm.rank == 0:
            print(
                f"{comm.world_size} rank(s): {accuracy:.2%} of {len(held_out.digits)} held-out digits right; "
                f"parameters are {'the same bits' if same else 'DIFFERENT'} on every rank, "
                f"norm {np.linalg.norm(network.parameters):.4f}"
            )
            if options.save:
                np.save(options.save, network.parameters)
        return 0 if same and accuracy >= options.expect_accuracy else 1


if __name__ == "__main__":
    sys.exit(main())
