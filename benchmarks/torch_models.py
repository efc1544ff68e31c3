"""The models in PyTorch, as its users write them: channels first, logits instead of softmax."""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from torch import nn

from benchmarks.torch_networks import mobilenet_v2, resnet50
from benchmarks.workloads import CLASSES, MODELS, initial_weights

LOSSES = {
    "class": nn.functional.cross_entropy,
    "input": nn.functional.mse_loss,
    "number": nn.functional.mse_loss,
    "xor": nn.functional.binary_cross_entropy_with_logits,
}


def build_model(name: str) -> nn.Module:
    """The model of that name."""
    return _BUILDERS[name]()


def is_image(name: str) -> bool:
    """Whether the model's inputs have channels."""
    return len(MODELS[name].input) == 3


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(2304, 128), nn.ReLU(), nn.Linear(128, CLASSES),
    )  # fmt: skip


def _cifar() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, CLASSES),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)
    )


class _IdentityBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(64, 16, 1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 64, 1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.inner(x))


def _residual() -> nn.Module:
    blocks = [_IdentityBlock() for _ in range(3)]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


def _autoencoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 128, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2),
        nn.Conv2d(64, 1, 3, padding=1), nn.Sigmoid(),
    )  # fmt: skip


class _Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.classes = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.block(x).mean(1))


class _LSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, 128, batch_first=True)
        self.classes = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.lstm(x)[0][:, -1])


def _xor() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = torch.softmax(q @ k.transpose(1, 2) * 0.25, -1)
        return self.out((weights @ v).mean(1))


_BUILDERS = {
    "cnn": _cnn, "cifar": _cifar, "mlp": _mlp, "residual": _residual,
    "autoencoder": _autoencoder, "transformer": _Transformer, "lstm": _LSTM, "xor": _xor,
    "attention": _Attention, "resnet50": resnet50, "mobilenet_v2": mobilenet_v2,
}  # fmt: skip


def set_initial_weights(model: nn.Module) -> None:
    """Gives a model of convolutions and dense layers `initial_weights`, which are in Keras' layout.

    A dense layer after a convolution has its inputs in another order: Keras flattens (H, W, C),
    PyTorch (C, H, W).
    """
    layers: list[Any] = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    weights = iter(initial_weights(tuple(s for layer in layers for s in _keras_shapes(layer))))
    channels = 0  # of the convolution just before, if there is one
    for layer in layers:
        w, b = torch.tensor(next(weights)), torch.tensor(next(weights))
        if isinstance(layer, nn.Conv2d):
            w, channels = w.permute(3, 2, 0, 1), layer.out_channels
        else:
            if channels:
                side = isqrt(len(w) // channels)
                w = w.reshape(side, side, channels, -1).permute(2, 0, 1, 3).flatten(0, 2)
            w, channels = w.T, 0
        with torch.no_grad():
            layer.weight.copy_(w)
            layer.bias.copy_(b)


def _keras_shapes(layer: Any) -> list[tuple[int, ...]]:
    if isinstance(layer, nn.Conv2d):
        filters = layer.out_channels
        return [(*layer.kernel_size, layer.in_channels, filters), (filters,)]
    return [(layer.in_features, layer.out_features), (layer.out_features,)]
