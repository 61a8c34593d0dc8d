"""Recurrent networks: long short-term memory, in one direction or both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from einthoven.models.blocks import check_depth, head


class Recurrence(nn.Module):
    """Stacked LSTM layers (Hochreiter and Schmidhuber 1997; Gers et al. 2000), summarized over time.

    The summary is the mean, the maximum and the last state of each direction. The last state is the one that has read
    the whole signal. It stands at the end of the signal for the forward direction, and at the start for the backward
    direction.
    """

    def __init__(self, in_channels: int, hidden: int, layers: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_channels, hidden, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to features ``[B, 3 * directions * hidden]``."""
        states = self.states(x)

        # The last states are cut out of `states`. The second result of nn.LSTM holds the same numbers, but
        # torch.export of torch 2.9 records it with a batch size of 1.
        hidden = self.lstm.hidden_size
        last_forward = states[:, -1, :hidden]
        last_backward = states[:, 0, hidden:]
        return torch.cat([states.mean(dim=1), states.amax(dim=1), last_forward, last_backward], dim=1)

    def states(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, C, T]`` to the state after each sample, ``[B, T, directions * hidden]``."""
        steps = x.transpose(1, 2)
        states: Tensor
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # Not every CPU has an LSTM in bfloat16.
            with torch.autocast("cpu", enabled=False):
                states, _ = self.lstm(steps.float())
        else:
            states, _ = self.lstm(steps)
        return states


class LSTM(nn.Module):
    """The recurrent baseline of the benchmark (Strodthoff et al. 2021).

    One detail differs: the last state of the backward direction is the one at the start of the signal.
    The network takes one step per sample, one after the other. Shorter windows (`trainer.window`, 2.5 s in the
    benchmark) save time in proportion.

    Stages (direct children): ``recurrence``, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    hidden, layers
        Features of the state of each direction; stacked layers.
    bidirectional
        Whether a second direction reads the signal backwards.
    head_hidden
        Features of the hidden layer in the head.
    dropouts
        Dropout probabilities before the two linear layers of the head.
    activation, norm
        Activation and norm in the head, as in `einthoven.models.activations` and `einthoven.models.norms`. The
        activations inside an LSTM are part of its definition: sigmoids for the gates, tanh for the state.
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
        directions = 2 if bidirectional else 1
        features = 3 * hidden * directions
        self.head = head(features, num_classes, hidden=head_hidden, dropouts=dropouts, activation=activation, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        return self.head(self.recurrence(x))

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to tokens ``[B, T, D]``, the state after each sample."""
        return self.recurrence.states(x)
