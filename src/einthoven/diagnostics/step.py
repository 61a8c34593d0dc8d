"""The measurements of a training step, together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from einthoven.contracts import Autocast, Batch
from einthoven.diagnostics.activations import ActivationVariance, DeadUnits
from einthoven.diagnostics.gradients import (
    GradientCosine,
    clipping,
    gradient_norms,
    gradient_norms_l1,
    nonfinite,
)
from einthoven.diagnostics.information import PriorKL, label_information, predictive_entropy
from einthoven.diagnostics.moments import second_moment_spread
from einthoven.diagnostics.noise import NoiseScale
from einthoven.diagnostics.stages import stages
from einthoven.diagnostics.updates import Updates
from einthoven.diagnostics.weights import spectral_norms, weight_norms

if TYPE_CHECKING:
    from einthoven.models.frontend import Classifier
    from einthoven.schema import Diagnostics


class StepDiagnostics:
    """Measurements of a training step, taken before and after its update of the weights.

    Each measure has its own interval, and costs nothing between two measurements. All values are device tensors, and
    nothing waits for the device. Measuring changes no training: weights, gradients and running statistics are left as
    they are.

    Parameters
    ----------
    model : Classifier
        The direct children of its network are the stages.
    task : Task
        Where its output is ``softmax``, the logits of a record are one categorical distribution, where it is
        ``sigmoid``, one Bernoulli distribution a class; of others, predictions are not measured. A task of classes
        also has ``reference(y)``, the labels that its loss compares with, and ``loss_is_cross_entropy``.
    optimizer : Optimizer
        For its second moments.
    intervals : Diagnostics
        Steps between two measurements of each measure; None: never.
    autocast : callable
        In which forward passes run.
    parts : int
        Parts of a batch that the noise scale compares, 2 or more.
    """

    def __init__(
        self,
        model: Classifier,
        task: Any,
        optimizer: Optimizer,
        intervals: Diagnostics,
        *,
        autocast: Autocast,
        parts: int = 2,
    ) -> None:
        self._stages, self._task, self._optimizer = stages(model.network), task, optimizer
        self._every, self._step = intervals, 0
        self._prior, self._updates = PriorKL(), Updates(self._stages)
        self._cosine = GradientCosine(self._stages, intervals.cosine)
        self._noise = NoiseScale(model, task, autocast, parts)
        self._watches = (
            ActivationVariance(model.network, intervals.activations),
            DeadUnits(model.network, intervals.dead),
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See the forward passes of the network inside this block."""
        with ExitStack() as stack:
            for watch in self._watches:
                stack.enter_context(watch.watching())
            yield

    def before_update(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Measure between backward pass and clipping; of an optimizer with several gradients a step, at the first."""
        every, told = self._every, dict[str, Tensor]()
        for watch in self._watches:
            told |= watch.take()
            watch.expect(None)
        if self._due(every.gradients):
            told |= gradient_norms(self._stages) | {"watch/grad/nonfinite": nonfinite(self._stages)}
        if self._due(every.gradients_l1):
            told |= gradient_norms_l1(self._stages)
        if self._due(every.predictions):
            told |= self._predictions(batch, logits)
        if self._due(every.updates):
            self._updates.before()
        told |= self._cosine.update(self._step)
        if self._due(every.noise_scale):
            told["watch/grad/noise_scale"] = self._noise.update(batch)
        return told

    def after_update(self, norm: Tensor, limit: float) -> dict[str, Tensor]:
        """Measure after the update; `norm` is that of the gradient before it was clipped to `limit`."""
        every, told = self._every, self._updates.after()
        if self._due(every.clipping):
            told |= clipping(norm, limit)
        if self._due(every.weights):
            told |= weight_norms(self._stages)
        if self._due(every.spectral):
            told |= spectral_norms(self._stages)
        if self._due(every.second_moments):
            told |= second_moment_spread(self._optimizer)
        self._go_to(self._step + 1)
        return told

    def _predictions(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        if self._task.output not in ("sigmoid", "softmax") or logits.shape != batch.y.shape:  # no classes
            return {}
        single_label = self._task.output == "softmax"
        probabilities = logits.softmax(dim=-1) if single_label else logits.sigmoid()
        metrics = label_information(self._task.reference(batch.y), logits, single_label, batch.valid)
        if not self._task.loss_is_cross_entropy:
            metrics["train/cross_entropy"] = metrics["watch/diag/entropy_labels"] + metrics["watch/diag/kl_labels"]
        metrics["watch/diag/entropy"] = predictive_entropy(logits, single_label, batch.valid)
        metrics["watch/diag/kl_prior"] = self._prior.update(batch.y, probabilities, batch.valid)
        return metrics

    def _go_to(self, step: int) -> None:
        self._step = step
        for watch in self._watches:
            watch.expect(step)

    def _due(self, every: int | None) -> bool:
        return every is not None and self._step % every == 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "step": self._step,
            "prior": self._prior.state_dict(),
            "cosine": self._cosine.state_dict(),
            "noise": self._noise.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._go_to(state["step"])
        self._prior.load_state_dict(state["prior"])
        self._cosine.load_state_dict(state["cosine"])
        self._noise.load_state_dict(state["noise"])
