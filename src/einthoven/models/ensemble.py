"""Several classifiers as one network: its probabilities are the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from einthoven.functional.outputs import logits_of, mixture_logits, tempered


class Ensemble(nn.Module):
    """Classifiers of the same classes that answer together. They are not trained, and stay in evaluation mode.

    Parameters
    ----------
    members : sequence of nn.Module
        Each maps mV ``[B, leads, T]`` to logits ``[B, K]``.
    columns : sequence of Tensor, int64 (K,)
        For each member, the output of each class: members may list the classes in another order.
    temperatures : sequence of float
        Divisor of the logits of each member.
    single_label : bool
        Whether the logits are one categorical distribution, or one Bernoulli distribution for each class.
    weights : sequence of float, optional
        Weight of each member in the mean, above 0. Further members whose probabilities are known come last. By default
        all weights are equal.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        columns: Sequence[Tensor],
        temperatures: Sequence[float],
        single_label: bool,
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        # There may be no network among the members.
        no_columns = torch.empty((0, 0), dtype=torch.long)
        self.register_buffer("columns", torch.stack(list(columns)) if columns else no_columns)
        self.temperatures = tuple(temperatures)
        self.single_label = single_label
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(weights))
        self.requires_grad_(False)
        self.train(False)

    columns: Tensor

    def train(self, mode: bool = True) -> Ensemble:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(self, x: Tensor, temperature: float = 1.0, known_p: Tensor | None = None) -> Tensor:
        """Return the logits ``[B, K]`` of the mean probabilities.

        Parameters
        ----------
        x : Tensor ``[B, leads, T]``
            Signals in mV.
        temperature : float
            A further divisor of the logits of each member, before the mean.
        known_p : Tensor ``[B, M, K]``, optional
            Probabilities of M further members, which are no networks.
        """
        with torch.no_grad():
            answers = []
            for member, columns, own_temperature in zip(self.members, self.columns, self.temperatures, strict=True):
                logits = member(x).float()[:, columns]
                answers.append(tempered(logits, own_temperature * temperature))
            if known_p is not None:
                known_logits = tempered(logits_of(known_p, self.single_label), temperature)
                answers += known_logits.unbind(1)
            return mixture_logits(torch.stack(answers), self.single_label, self.weights)
