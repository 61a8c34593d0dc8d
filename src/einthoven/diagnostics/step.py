"""The measurements of a training step, together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from einthoven.diagnostics.activations import ActivationVariance
from einthoven.diagnostics.gradients import gradient_norms, stages
from einthoven.diagnostics.information import PriorKL, predictive_entropy

if TYPE_CHECKING:
    from einthoven.data.batches import Batch


class StepDiagnostics:
    """Called between backward pass and update: gradient norms and activation variances per stage, entropy and KL.

    Parameters
    ----------
    network : Module
        Its direct children are the stages.
    output : str
        What the logits are made into: ``softmax``, one categorical distribution; ``sigmoid``, one Bernoulli
        distribution a class; of others, the gradient alone is measured.
    every : int
        Steps between two measurements.
    activations : int or None
        Steps between two measurements of the activations' variance, while `activations.watching()`; None: never.
    passes : int
        Forward passes in which a step reads its batch.
    """

    def __init__(
        self, network: nn.Module, output: str, every: int, activations: int | None = None, passes: int = 1
    ) -> None:
        self._stages = stages(network)
        self._output, self._every, self._calls = output, every, 0
        self._prior = PriorKL()
        self.activations = ActivationVariance(network, activations, passes)

    def __call__(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Metrics of this step, as device tensors; empty between two measurements."""
        self._calls += 1
        variances = self.activations.take()
        self.activations.expect(self._calls)
        if (self._calls - 1) % self._every:
            return variances
        measured = {**variances, **gradient_norms(self._stages)}
        if self._output not in ("sigmoid", "softmax"):
            return measured
        single_label = self._output == "softmax"
        probabilities = logits.softmax(dim=-1) if single_label else logits.sigmoid()
        return {
            **measured,
            "diag/entropy": predictive_entropy(logits, single_label),
            "diag/kl_prior": self._prior.update(batch.y, probabilities),
        }

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"calls": self._calls, "prior": self._prior.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._calls = state["calls"]
        self.activations.expect(self._calls)
        self._prior.load_state_dict(state["prior"])
