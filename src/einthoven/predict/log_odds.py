"""The log-odds of what a model reports, as a function of millivolts: what an explanation is of."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.functional.conform import window_starts
from einthoven.functional.outputs import tempered
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.models.frontend import Classifier


class LogOdds(nn.Module):
    """Raw mV (n, L, T) -> windows -> classifier -> probabilities over the windows -> their log-odds (n, K).

    Of one window with a sigmoid these are the logits. A softmax of one class against all others has log-odds, too,
    which do not move with what is the same in all logits.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode.
    window, stride : int
        Samples that the classifier sees at once, and from one such window to the next.
    aggregate : str
        ``mean`` or ``max`` of the windows' probabilities.
    single_label : bool
        Softmax over the classes, or a sigmoid for each.
    temperature : float
        Divisor of the logits.
    """

    def __init__(
        self,
        classifier: Classifier,
        window: int,
        stride: int,
        aggregate: str,
        *,
        single_label: bool,
        temperature: float,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.window, self.stride, self.aggregate = window, stride, aggregate
        self.single_label, self.temperature = single_label, temperature

    @property
    def network(self) -> nn.Module:
        """The network."""
        return self.classifier.network

    @property
    def frontend(self) -> nn.Module:
        """The projection of the leads."""
        return self.classifier.frontend

    def forward(self, x: Tensor) -> Tensor:
        """Log-odds of each class."""
        z = tempered(apply_to_windows(self.classifier, x, self.window, self.stride), self.temperature)
        if self.single_label:
            z = z - _logit_of_the_other_classes(z)
        if self.aggregate == "max":
            return aggregate_windows(z, "max")
        return _log_mean(F.logsigmoid(z)) - _log_mean(F.logsigmoid(-z))

    def windows(self, samples: int) -> tuple[list[int], int]:
        """Where the windows begin that the network is given one by one, and how long they are, in samples."""
        return window_starts(samples - self.window, self.stride, "slide").tolist(), self.window

    def pieces(self, samples: int) -> tuple[list[int], int]:
        """Those of the classifier."""
        return self.classifier.pieces(samples)


def _log_mean(z: Tensor) -> Tensor:
    """Logarithm of the mean over windows (n, W, K) of what has these logarithms."""
    return z.logsumexp(dim=1) - math.log(z.shape[1])


def _logit_of_the_other_classes(z: Tensor) -> Tensor:
    """For each class, return the logarithm of the summed exponentials of all other classes: (..., K) to (..., K)."""
    is_same_class = torch.eye(z.shape[-1], dtype=torch.bool, device=z.device)
    return z.unsqueeze(-2).masked_fill(is_same_class, -math.inf).logsumexp(dim=-1)
