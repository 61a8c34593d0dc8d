"""Recurrent networks: long short-term memory, in one direction or both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from einthoven.models.blocks import check_depth, head


class Recurrence(nn.Module):
    """Stacked LSTM layers (Hochreiter and Schmidhuber 1997; Gers et al. 2000), read out over time.

    The readout is the mean, the maximum and the last state. The last state of a direction is the one that has read the
    whole signal: at the end for the forward direction, at the start for the backward one.
    """

    def __init__(self, in_channels: int, hidden: int, layers: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_channels, hidden, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to features ``[B, 3 * directions * hidden]``."""
        steps = x.transpose(1, 2)
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):  # not every CPU has an LSTM in bfloat16
                states, (last, _) = self.lstm(steps.float())
        else:
            states, (last, _) = self.lstm(steps)
        directions = states.shape[2] // last.shape[2]
        ends = last[-directions:].transpose(0, 1).flatten(1)
        return torch.cat([states.mean(dim=1), states.amax(dim=1), ends], dim=1)


class LSTM(nn.Module):
    """The benchmark's recurrent baseline (Strodthoff et al. 2021), with the backward direction pooled at its own end.

    It takes a step at every sample, one after the other: shorter windows (`trainer.window`, 2.5 s in the benchmark)
    save time accordingly.

    Stages (direct children): ``recurrence``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        In and out.
    hidden, layers
        Features of the state of each direction; stacked layers.
    bidirectional
        Read the signal backwards as well.
    head_hidden
        Features of the head's hidden layer.
    dropouts
        Probabilities before the head's two linear layers.
    activation, norm
        Of the head, as in `einthoven.models.activations` and `einthoven.models.norms`. The activations inside an LSTM
        are part of what it is: sigmoids for the gates, tanh for the state.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        bidirectional: bool,
        hidden: int = 256,
        layers: int = 2,
        head_hidden: int = 128,
        dropouts: Sequence[float] = (0.25, 0.5),
        activation: str = "relu",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        check_depth("layers", layers)
        self.recurrence = Recurrence(in_channels, hidden, layers, bidirectional=bidirectional)
        features = 3 * hidden * (2 if bidirectional else 1)
        self.head = head(features, num_classes, hidden=head_hidden, dropouts=dropouts, activation=activation, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        logits: Tensor = self.head(self.recurrence(x))
        return logits
