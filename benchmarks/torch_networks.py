"""ResNet50 and MobileNetV2 in PyTorch, with the layers and sizes of Keras' ready-made ones."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.workloads import CLASSES, MOBILENET_BLOCKS, RESNET_GROUPS


def resnet50() -> nn.Module:
    """He et al. 2015, with the strides in the first convolution of a block, as in Keras."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, count, stride, _ in RESNET_GROUPS:
        for number in range(count):
            layers.append(_Bottleneck(channels, width, stride if number == 0 else 1, number == 0))
            channels = 4 * width
    return nn.Sequential(*layers, *_top(channels))


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, projects: bool):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, width, 1, stride), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, width, 3, 1, 1), nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Conv2d(width, 4 * width, 1), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        projection = nn.Conv2d(channels, 4 * width, 1, stride), nn.BatchNorm2d(4 * width)
        self.past = nn.Sequential(*projection) if projects else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + self.past(x))


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018."""
    layers, channels = _normalized(nn.Conv2d(3, 32, 3, 2, 1, bias=False)), 32
    for expansion, width, count, stride, _ in MOBILENET_BLOCKS:
        for number in range(count):
            layers.append(_Inverted(channels, width, stride if number == 0 else 1, expansion))
            channels = width
    layers += _normalized(nn.Conv2d(channels, 1280, 1, bias=False))
    return nn.Sequential(*layers, *_top(1280))


class _Inverted(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, expansion: int):
        super().__init__()
        inner = channels * expansion
        layers = []
        if expansion > 1:
            layers += _normalized(nn.Conv2d(channels, inner, 1, bias=False))
        layers += _normalized(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False))
        layers += [nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)]
        self.inner = nn.Sequential(*layers)
        self.adds = stride == 1 and channels == width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.inner(x) if self.adds else self.inner(x)


def _normalized(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU6(True)]


def _top(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
