"""The linear baseline: logistic regression."""

from __future__ import annotations

from torch import Tensor, nn

from einthoven.models.blocks import check_samples


class Logistic(nn.Module):
    """One linear layer on the flattened signal: multinomial or multi-label logistic regression.

    It reads a fixed number of samples. The weights start at zero. The loss is convex, so the start does not matter, and
    zero does not depend on the seed.

    Stages (direct children): ``linear``.
    """

    def __init__(self, in_channels: int, num_classes: int, *, samples: int) -> None:
        super().__init__()
        self.samples = samples
        self.linear = nn.Linear(in_channels * samples, num_classes)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, samples]`` to logits ``[B, num_classes]``."""
        check_samples(x, self.samples, "logistic")
        return self.linear(x.flatten(1))
