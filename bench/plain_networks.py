"""Networks of the PTB-XL benchmark in plain torch, as their authors write them: 1D convolutions, the default layout.

`bench_models.py` compares their training step with that of the same network of the package. Nothing here imports the
package.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv(channels: int, out: int, kernel: int, stride: int = 1, *, activation: bool = True) -> nn.Sequential:
    layers = [nn.Conv1d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm1d(out)]
    if activation:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.branch(x) + self.shortcut(x))


class Inception(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(channels, 32, 1, bias=False)
        self.convs = nn.ModuleList(nn.Conv1d(32, 32, k, padding=k // 2, bias=False) for k in (39, 19, 9))
        self.maximum = nn.Sequential(nn.MaxPool1d(3, 1, 1), nn.Conv1d(channels, 32, 1, bias=False))
        self.norm = nn.Sequential(nn.BatchNorm1d(128), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.bottleneck(x)
        return self.norm(torch.cat([*(layer(narrow) for layer in self.convs), self.maximum(x)], dim=1))


class ConcatPool(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.amax(2), x.mean(2)], dim=1)


def head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        ConcatPool(),
        nn.BatchNorm1d(2 * channels),
        nn.Dropout(0.25),
        nn.Linear(2 * channels, 128),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(128),
        nn.Dropout(0.5),
        nn.Linear(128, classes),
    )


def resnet1d_wang(classes: int) -> nn.Module:
    layers: list[nn.Module] = [conv(12, 128, 7)]
    for stride in (1, 2, 2):
        branch = nn.Sequential(conv(128, 128, 5, stride), conv(128, 128, 3, activation=False))
        shortcut = nn.Identity() if stride == 1 else conv(128, 128, 1, stride, activation=False)
        layers.append(Residual(branch, shortcut))
    return nn.Sequential(*layers, head(128, classes))


def xresnet1d101(classes: int) -> nn.Module:
    layers = [conv(12, 32, 5, 2), conv(32, 32, 5), conv(32, 64, 5), nn.MaxPool1d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate((3, 4, 23, 3)):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            branch = nn.Sequential(conv(channels, 64, 1), conv(64, 64, 5, stride), conv(64, 256, 1, activation=False))
            shortcut = nn.Sequential()
            if stride == 2:
                shortcut.append(nn.AvgPool1d(2, ceil_mode=True))
            if channels != 256:
                shortcut.append(conv(channels, 256, 1, activation=False))
            layers.append(Residual(branch, shortcut))
            channels = 256
    return nn.Sequential(*layers, head(256, classes))


def inception1d(classes: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 12
    for _ in range(2):
        branch = nn.Sequential(Inception(channels), Inception(128), Inception(128))
        layers.append(Residual(branch, conv(channels, 128, 1, activation=False)))
        channels = 128
    return nn.Sequential(*layers, head(128, classes))


NETWORKS = {"resnet1d_wang": resnet1d_wang, "xresnet1d101": xresnet1d101, "inception1d": inception1d}
