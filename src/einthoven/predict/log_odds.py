"""The log-odds of the probabilities that a model reports, as a function of mV. Explanations are computed of it."""

from __future__ import annotations

import math
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.functional.conform import window_starts
from einthoven.functional.outputs import tempered
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.models.frontend import Classifier
from einthoven.predict.bundle import Bundle


class LogOdds(nn.Module):
    """Records in mV (n, L, T) to the log-odds (n, K) of the probabilities that are aggregated over their windows.

    With one window and a sigmoid, the log-odds are the logits. With a softmax, the log-odds compare one class with all
    other classes. They do not change if the same number is added to all logits.

    Parameters
    ----------
    classifier : Classifier
        In evaluation mode.
    window, stride : int
        Length of a window of the classifier, and distance between the starts of two windows, in samples.
    aggregate : str
        ``mean`` or ``max`` of the probabilities over the windows.
    single_label : bool
        Whether the probabilities are a softmax over the classes, or one sigmoid for each class.
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
        self.window = window
        self.stride = stride
        self.aggregate = aggregate
        self.single_label = single_label
        self.temperature = temperature

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Self:
        """Return the log-odds of the probabilities of a bundle before calibration."""
        return cls(
            bundle.model,
            bundle.input_format.window,
            bundle.input_format.stride,
            bundle.input_format.aggregate,
            single_label=bundle.single_label,
            temperature=bundle.temperature,
        )

    @property
    def network(self) -> nn.Module:
        """The network of the classifier."""
        return self.classifier.network

    @property
    def frontend(self) -> nn.Module:
        """The frontend of the classifier."""
        return self.classifier.frontend

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-odds of each class."""
        z = tempered(apply_to_windows(self.classifier, x, self.window, self.stride), self.temperature)
        if self.single_label:
            z = z - _logit_of_the_other_classes(z)
        if self.aggregate == "max":
            return aggregate_windows(z, "max")
        return _log_mean(F.logsigmoid(z)) - _log_mean(F.logsigmoid(-z))

    def windows(self, samples: int) -> tuple[list[int], int]:
        """Return the starts of the windows of a record, and the length of a window, in samples."""
        starts: list[int] = window_starts(samples - self.window, self.stride, "slide").tolist()
        return starts, self.window

    def pieces(self, samples: int) -> tuple[list[int], int]:
        """Return the parts of a window that attention reads one by one, as `Classifier.pieces`."""
        return self.classifier.pieces(samples)


def _log_mean(log_values: Tensor) -> Tensor:
    """Return the logarithm of the mean over windows of values whose logarithms (n, W, K) are given."""
    return log_values.logsumexp(dim=1) - math.log(log_values.shape[1])


def _logit_of_the_other_classes(z: Tensor) -> Tensor:
    """For each class, return the logarithm of the summed exponentials of all other classes: (..., K) to (..., K)."""
    is_same_class = torch.eye(z.shape[-1], dtype=torch.bool, device=z.device)
    return z.unsqueeze(-2).masked_fill(is_same_class, -math.inf).logsumexp(dim=-1)
