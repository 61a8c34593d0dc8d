"""The measurements at the end of each epoch: validation metrics, and the diagnostics that are due."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from einthoven.contracts import Predictions, TaskKind
from einthoven.diagnostics import curvature
from einthoven.diagnostics.activations import attention_entropy
from einthoven.diagnostics.histograms import (
    magnitude_edges,
    magnitude_histogram,
    probability_histogram,
    stage_outputs,
)
from einthoven.diagnostics.information import confident_wrong, entropy_histogram, kl_drift, kl_windows
from einthoven.diagnostics.landscape import flatten
from einthoven.diagnostics.rank import effective_rank, features
from einthoven.evaluation.scores import calibration_error_per_class
from einthoven.functional.class_names import parts
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.probing import attention_maps, probe_batch, probe_hessian, probe_loss
from einthoven.runs.network.representation import Probe, latent_metrics, representation_metrics
from einthoven.tasks.pretext import Pretext
from einthoven.training.memory import memory_for


class Validation:
    """Measures the model at the end of an epoch.

    What later epochs compare with, and the arrays for figures, are part of the checkpoints.

    Attributes
    ----------
    snapshots : list of array of float32, shape (n,)
        The weights at the epochs that a trajectory is drawn through.
    """

    def __init__(self, run: NetworkParts) -> None:
        self._run = run
        self._intervals = run.settings.diagnostics
        self._previous: NDArray[np.float64] | None = None
        # The predictions of the last epoch, with the digest of their weights.
        self._last: tuple[bytes, Predictions] | None = None
        self._histograms: dict[str, list[NDArray[Any]]] = {}
        # Nothing but figures shows these histograms.
        self._histograms_interval = self._intervals.histograms if run.settings.tracking.artifacts else None
        # A probe refuses data without labels, so it is made before the training begins.
        is_probed = self._intervals.probe_auroc is not None and isinstance(run.task, Pretext)
        self._probe = Probe(run) if is_probed and "val" in run.data.splits else None
        self.snapshots: list[NDArray[np.float32]] = []

    def __call__(self) -> dict[str, float]:
        """Return the metrics of the validation split, if there is one, and of the model."""
        metrics = self._measure_split()
        with memory_for("the diagnostics of an epoch", "fewer of them (diagnostics=none has none)"):
            return metrics | self._measure_model()

    def _measure_split(self) -> dict[str, float]:
        """Predict the validation split, and return its metrics."""
        run = self._run
        if "val" not in run.data.splits:
            return {}

        # The features are recorded while the split is predicted.
        with ExitStack() as stack:
            is_rank_due = self._is_due(self._intervals.effective_rank)
            layer_features = []
            if is_rank_due:
                layer_features = stack.enter_context(features(run.model.network, processes=run.processes))
            stack.enter_context(run.processes.share(run.model))
            row_predictions = run.predict("val")
        self._keep_last(row_predictions)

        predictions = run.data.by_record("val", row_predictions, run.settings.trainer.aggregate)
        task_metrics = run.task.metrics(predictions.y, predictions.p, run.data.labels.classes)
        metrics = {f"val/{name}": value for name, value in task_metrics.items()}
        metrics |= run.compare_with_teachers("val", predictions)
        if layer_features:
            metrics["watch/act/effective_rank"] = effective_rank(torch.cat(layer_features))
        if isinstance(run.task, Pretext):
            if self._is_due(self._intervals.representation):
                metrics |= representation_metrics(run, run.task)
            if self._is_due(self._intervals.latents):
                metrics |= latent_metrics(run, run.task)
            if self._probe is not None and self._is_due(self._intervals.probe_auroc):
                metrics["val/probe_auroc"] = self._probe.auroc(run, run.task)
        has_classes = run.task.kind is TaskKind.CLASSES and predictions.p.ndim == 2
        if has_classes:
            metrics |= self._diagnose_probabilities(predictions, row_predictions)
        return metrics

    def measure_raw_weights(self) -> dict[str, float]:
        """Return loss and monitored metric of the validation split, if there is one, as ``val/raw/…``.

        They are measured beside the metrics of averaged weights.
        """
        run = self._run
        if "val" not in run.data.splits:
            return {}
        with run.processes.share(run.model):
            predictions = run.evaluate("val")
        metrics = run.task.metrics(predictions.y, predictions.p, run.data.labels.classes)
        return {f"val/raw/{name}": metrics[name] for name in ("loss", run.task.monitor) if name in metrics}

    def _keep_last(self, row_predictions: Predictions) -> None:
        """Keep the predictions of the last epoch, if the end of the run would make the same ones again."""
        run = self._run
        is_last_epoch = run.position.epoch >= run.settings.trainer.epochs
        if is_last_epoch and run.precision == "fp32" and run.processes.size == 1:
            self._last = _digest_weights(run.model), row_predictions

    def last_predictions(self) -> Predictions | None:
        """Return the predictions of the rows of the validation split, if they were made in fp32 by the present weights.

        Their weights are compared, because the end of a run may choose those of an earlier epoch, or averages.
        """
        if self._last is None:
            return None
        digest, row_predictions = self._last
        return row_predictions if digest == _digest_weights(self._run.model) else None

    def _diagnose_probabilities(self, predictions: Predictions, row_predictions: Predictions) -> dict[str, float]:
        """Return the diagnostics of probabilities that are due."""
        run = self._run
        intervals = self._intervals
        is_single_label = run.task.single_label
        y = predictions.y
        p = predictions.p
        metrics: dict[str, float] = {}

        if self._is_due(intervals.drift):
            if self._previous is not None:
                metrics["watch/diag/kl_drift"] = kl_drift(self._previous, p, single_label=is_single_label)
            self._previous = p

        if self._is_due(intervals.calibration):
            gaps = calibration_error_per_class(y, p)
            names = parts(run.data.labels.classes).values()
            metrics |= {f"val/calibration_gap/{name}": gap for name, gap in zip(names, gaps, strict=True)}
            metrics["watch/diag/calibration_gap"] = float(gaps.mean())
            metrics["watch/diag/confident_wrong"] = confident_wrong(y, p)

        if self._is_due(intervals.windows) and row_predictions.windows is not None:
            windows = row_predictions.windows
            record_of_window = np.repeat(run.data.row_origins("val")[0], windows.shape[1])
            flat_windows = windows.reshape(len(record_of_window), -1)
            divergence = kl_windows(flat_windows, record_of_window, single_label=is_single_label)
            if divergence is not None:
                metrics["watch/diag/kl_windows"] = divergence

        if self._is_due(self._histograms_interval):
            self._add_histogram("probabilities", *probability_histogram(p))

        if self._is_due(intervals.entropy_histogram):
            counts, edges = entropy_histogram(p, single_label=is_single_label)
            self._add_histogram("entropy", counts, edges)
        return metrics

    def _measure_model(self) -> dict[str, float]:
        """Return the diagnostics of the model that are due, and keep a snapshot of the weights if it is due."""
        run = self._run
        intervals = self._intervals
        metrics: dict[str, float] = {}
        run.model.eval()
        if self._is_due(intervals.attention_entropy):
            metrics |= attention_entropy(attention_maps(run))
        if self._is_due(intervals.sharpness) or self._is_due(intervals.hessian_trace):
            with probe_hessian(run) as hessian:
                # Both measures draw from one generator, so that their order matters.
                generator = torch.Generator().manual_seed(run.settings.seed)
                if self._is_due(intervals.sharpness):
                    metrics["watch/diag/sharpness"] = curvature.sharpness(hessian, generator)
                if self._is_due(intervals.hessian_trace):
                    metrics["watch/diag/hessian_trace"] = curvature.trace(hessian, generator)
        if self._is_due(self._histograms_interval):
            self._count_magnitudes()
        if self._is_due(intervals.trajectory):
            self.snapshots.append(flatten(run.trainable()))
        return metrics

    @torch.no_grad()
    def _count_magnitudes(self) -> None:
        """Add histograms of the weights, of the last (clipped) gradient, and of the outputs of the stages."""
        run = self._run
        parameters = run.trainable()
        gradients = [p.grad for p in parameters if p.grad is not None]
        with stage_outputs(run.model.network) as outputs:
            probe_loss(run, probe_batch(run))
        groups = {"weights": parameters, "gradients": gradients, "activations": outputs}
        for name, tensors in groups.items():
            if tensors:
                self._add_histogram(name, magnitude_histogram(tensors), magnitude_edges())

    def _add_histogram(self, name: str, counts: NDArray[np.int64], edges: NDArray[np.float64]) -> None:
        self._add(f"{name}/epoch", np.int64(self._run.position.epoch))
        self._add(f"{name}/counts", counts)
        self._add(f"{name}/edges", edges)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for figures, with the measurements along their first axis.

        For each measurement, such as ``entropy``: ``entropy/epoch`` (n,), ``entropy/counts`` (n, bins) and
        ``entropy/edges`` (n, bins + 1).
        """
        return {name: np.stack(values) for name, values in self._histograms.items()}

    def _add(self, name: str, value: Any) -> None:
        self._histograms.setdefault(name, []).append(np.asarray(value))

    def _is_due(self, interval: int | None) -> bool:
        return interval is not None and self._run.position.epoch % interval == 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        histograms = {name: [torch.from_numpy(value) for value in values] for name, values in self._histograms.items()}
        return {
            "previous": None if self._previous is None else torch.from_numpy(self._previous),
            "kept": histograms,
            "snapshots": [torch.from_numpy(weights) for weights in self.snapshots],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._previous = None if state["previous"] is None else state["previous"].numpy()
        self._histograms = {name: [value.numpy() for value in values] for name, values in state["kept"].items()}
        self.snapshots = [weights.numpy() for weights in state["snapshots"]]


def _digest_weights(model: nn.Module) -> bytes:
    """Return the SHA-256 of all parameters and buffers of a model."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + b"\0")
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.digest()
