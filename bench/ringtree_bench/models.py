"""Two small networks for `ringtree ddp`, of the kinds that people train; torch is needed.

They are sized so that a step on one core takes tenths of a second, and their gradients a few ten MB.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


class Residual(nn.Module):
    """Two convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x`: batch x channels x height x width."""
        return torch.relu(self.body(x) + self.shortcut(x))


class Transformer(nn.Module):
    """A decoder in the manner of GPT-2 (Radford et al., 2019), the output layer tied to the embedding."""

    def __init__(self, tokens: int, width: int, layers: int, length: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(tokens, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, width // 64, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """`text`: batch x length token numbers; returns a score for each possible next token."""
        x = self.tokens(text) + self.positions.weight
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        return nn.functional.linear(self.norm(x), self.tokens.weight)


@dataclass(frozen=True)
class Model:
    """A network, and a batch for it: the loss of one step."""

    name: str
    make: Callable[[], nn.Module]
    loss: Callable[[nn.Module], torch.Tensor]


def _resnet() -> nn.Module:
    stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 1, 1),
        *(block for i, o, s in stages for block in (Residual(i, o, s), Residual(o, o, 1))),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, 100),
    )


def _resnet_loss(model: nn.Module) -> torch.Tensor:
    scores = model(torch.randn(4, 3, 32, 32))
    return nn.functional.cross_entropy(scores, torch.randint(0, 100, (4,)))


def _gpt_loss(model: nn.Module) -> torch.Tensor:
    text = torch.randint(0, 8192, (2, 64))
    return nn.functional.cross_entropy(model(text).flatten(0, 1), text.flatten())


MODELS = {
    model.name: model
    for model in (
        Model("resnet", _resnet, _resnet_loss),
        Model("gpt", lambda: Transformer(8192, 384, 6, 64), _gpt_loss),
    )
}
