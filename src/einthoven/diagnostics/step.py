"""All measurements of a training step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from einthoven.contracts import ONE_PROCESS, Autocast, Batch, Processes, TaskKind
from einthoven.diagnostics.activations import ActivationVariance, DeadUnits
from einthoven.diagnostics.gradients import (
    GradientCosine,
    clipping,
    gradient_norms,
    gradient_norms_l1,
    nonfinite,
)
from einthoven.diagnostics.information import PriorKL, label_information, predictive_entropy
from einthoven.diagnostics.log_odds import LogOddsSums
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

    Each measurement has its own interval and costs nothing in the steps between. All values are device tensors, and no
    measurement waits for the device. The measurements do not change the training: weights, gradients and running
    statistics stay as they are.

    Parameters
    ----------
    model : Classifier
        The direct children of its network are the stages.
    task : Task
        If its ``output`` is ``softmax``, the logits of a record are one categorical distribution. If it is
        ``sigmoid``, they are one Bernoulli distribution per class. The predictions of other tasks are not measured.
        A task with classes also has ``class_logits(outputs)``, ``reference(y)`` (the labels that its loss uses) and
        ``loss_is_cross_entropy``.
    optimizer : Optimizer
        Its second moments are measured.
    intervals : Diagnostics
        Number of steps from one measurement to the next, for each kind of measurement; None turns it off.
    autocast : callable
        Context of the forward passes.
    parts : int
        The noise scale compares the gradients of this many parts of a batch; 2 or more.
    processes : Processes
        The processes that train together. Each value is that of the whole batch.
    rows : int
        Number of rows of the training split, for the log-odds of each.

    Attributes
    ----------
    log_odds : LogOddsSums or None
        Sums for each training record; None if they are turned off, or the task has no classes.
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
        processes: Processes = ONE_PROCESS,
        rows: int = 0,
    ) -> None:
        self._stages = stages(model.network)
        self._task = task
        self._optimizer = optimizer
        self._intervals = intervals
        self._step = 0
        self._prior = PriorKL()
        self._updates = Updates(self._stages)
        self._cosine = GradientCosine(self._stages, intervals.cosine)
        self._noise = NoiseScale(model, task, autocast, parts, processes=processes)
        self.log_odds: LogOddsSums | None = None
        if intervals.log_odds and task.kind is TaskKind.CLASSES:
            self.log_odds = LogOddsSums(rows, task.single_label)
        self._activations = (
            ActivationVariance(model.network, intervals.activations, processes),
            DeadUnits(model.network, intervals.dead, processes),
        )

    @contextmanager
    def attach_hooks(self) -> Iterator[None]:
        """Measure the outputs of the stages in the forward passes inside this block."""
        with ExitStack() as stack:
            for activation in self._activations:
                stack.enter_context(activation.attach_hooks())
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not measure the forward passes inside this block, which belong to no step."""
        for activation in self._activations:
            activation.set_step(None)
        try:
            yield
        finally:
            self._set_step(self._step)

    def use_parts(self, parts: int) -> None:
        """Compare the gradients of this many parts of a batch from now on."""
        self._noise.parts = parts

    def begin_again(self) -> None:
        """Forget the forward passes of this step, which begins again."""
        for activation in self._activations:
            activation.take_summaries()

    def before_update(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        """Measure after the backward pass and before clipping.

        If an optimizer computes several gradients in a step, call this after the first one.
        """
        intervals = self._intervals
        metrics: dict[str, Tensor] = {}

        # The forward pass is over. Later forward passes of this step, such as those of the noise scale, are not its
        # activations, so the hooks are switched off until the next step.
        for activation in self._activations:
            metrics |= activation.take_metrics()
            activation.set_step(None)

        # The gradient is complete and not clipped yet.
        if self._is_due(intervals.gradients):
            metrics |= gradient_norms(self._stages)
            metrics["watch/grad/nonfinite"] = nonfinite(self._stages)
        if self._is_due(intervals.gradients_l1):
            metrics |= gradient_norms_l1(self._stages)
        if self._is_due(intervals.predictions):
            metrics |= self._measure_predictions(batch, logits)
        if self.log_odds is not None:
            class_logits = self._task.class_logits(logits)
            labels = self._task.goal(batch)
            # The outputs of some networks are not the log-odds of the classes.
            if class_logits.shape == labels.shape:
                self.log_odds.update(batch, class_logits, labels)

        # `after_update` compares the new weights with this copy.
        if self._is_due(intervals.updates):
            self._updates.copy_weights()

        metrics |= self._cosine.update(self._step)
        if self._is_due(intervals.noise_scale):
            metrics["watch/grad/noise_scale"] = self._noise.update(batch)
        return metrics

    def after_update(self, norm: Tensor, limit: float) -> dict[str, Tensor]:
        """Measure after the update; `norm` is the gradient norm before it was clipped to `limit`."""
        intervals = self._intervals
        metrics = self._updates.measure()
        if self._is_due(intervals.clipping):
            metrics |= clipping(norm, limit)
        if self._is_due(intervals.weights):
            metrics |= weight_norms(self._stages)
        if self._is_due(intervals.spectral):
            metrics |= spectral_norms(self._stages)
        if self._is_due(intervals.second_moments):
            metrics |= second_moment_spread(self._optimizer)
        self._set_step(self._step + 1)
        return metrics

    def _measure_predictions(self, batch: Batch, logits: Tensor) -> dict[str, Tensor]:
        # Only tasks with one logit per class have label entropies and a prior.
        if self._task.kind is not TaskKind.CLASSES:
            return {}
        # The network may have other outputs than the classes. These measurements are about the classes.
        logits = self._task.class_logits(logits)
        y = self._task.goal(batch)
        if logits.shape != y.shape:
            return {}
        is_single_label = self._task.single_label
        probabilities = logits.softmax(dim=-1) if is_single_label else logits.sigmoid()
        reference = self._task.reference(y)

        metrics = label_information(reference, logits, is_single_label, batch.valid)
        # With other losses, train/loss is not the cross-entropy, so it gets its own metric.
        if not self._task.loss_is_cross_entropy:
            metrics["train/cross_entropy"] = metrics["watch/diag/entropy_labels"] + metrics["watch/diag/kl_labels"]
        metrics["watch/diag/entropy"] = predictive_entropy(logits, is_single_label, batch.valid)
        metrics["watch/diag/kl_prior"] = self._prior.update(y, probabilities, batch.valid)
        return metrics

    def _set_step(self, step: int) -> None:
        self._step = step
        for activation in self._activations:
            activation.set_step(step)

    def _is_due(self, interval: int | None) -> bool:
        return interval is not None and self._step % interval == 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {
            "step": self._step,
            "prior": self._prior.state_dict(),
            "cosine": self._cosine.state_dict(),
            "noise": self._noise.state_dict(),
            "log_odds": None if self.log_odds is None else self.log_odds.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._set_step(state["step"])
        self._prior.load_state_dict(state["prior"])
        self._cosine.load_state_dict(state["cosine"])
        self._noise.load_state_dict(state["noise"])
        if self.log_odds is not None and state.get("log_odds") is not None:
            self.log_odds.load_state_dict(state["log_odds"])
