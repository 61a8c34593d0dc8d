"""What is measured whenever an epoch has ended: validation metrics, and the diagnostics that are due."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.contracts import Predictions
from einthoven.diagnostics import curvature
from einthoven.diagnostics.activations import attention_entropy
from einthoven.diagnostics.information import confident_wrong, entropy_histogram, kl_drift, kl_windows
from einthoven.diagnostics.landscape import flatten
from einthoven.diagnostics.rank import effective_rank, features
from einthoven.evaluation.scores import calibration_error_per_class
from einthoven.functional.class_names import parts
from einthoven.runs.probing import attention_maps, hessian

if TYPE_CHECKING:
    from einthoven.runs.network_run import Run


class Validation:
    """Called once an epoch; what it compares with, and what it keeps for figures, goes into checkpoints.

    Attributes
    ----------
    kept : dict of str to list of arrays
        One array for each measurement: ``entropy/epoch``, ``entropy/counts`` (bins,) and ``entropy/edges``
        (bins + 1,), in nats.
    snapshots : list of array of float32, shape (n,)
        The weights at the epochs that a trajectory is drawn through.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._every = run, run.settings.diagnostics
        self._previous: NDArray[np.float64] | None = None
        self.kept: dict[str, list[NDArray[Any]]] = {}
        self.snapshots: list[NDArray[np.float32]] = []

    def __call__(self) -> dict[str, float]:
        """Metrics of the validation split, if there is one, and of the model."""
        return self._validation() | self._model()

    def _validation(self) -> dict[str, float]:
        run = self._run
        if "val" not in run.data.splits:
            return {}
        with ExitStack() as stack:
            due = self._due(self._every.effective_rank)
            seen = stack.enter_context(features(run.model.network)) if due else []
            by_window = run.predict("val")
        found = run.data.by_record("val", by_window, run.settings.trainer.aggregate)
        told = {f"val/{k}": v for k, v in run.task.metrics(found.y, found.p, run.data.labels.classes).items()}
        if seen:
            told |= self._rank(seen)
        if run.task.output in ("sigmoid", "softmax") and found.p.ndim == 2:  # classes
            told |= self._predictions(found, by_window)
        return told

    def _rank(self, seen: list[Tensor]) -> dict[str, float]:
        return {"watch/act/effective_rank": effective_rank(torch.cat(seen))}

    def _predictions(self, found: Predictions, by_window: Predictions) -> dict[str, float]:
        run, every, told = self._run, self._every, dict[str, float]()
        single_label = run.task.output == "softmax"
        if self._due(every.drift):
            if self._previous is not None:
                told["watch/diag/kl_drift"] = kl_drift(self._previous, found.p, single_label=single_label)
            self._previous = found.p
        if self._due(every.calibration):
            gaps = calibration_error_per_class(found.y, found.p)
            written = parts(run.data.labels.classes).values()
            told |= {f"val/calibration_gap/{name}": gap for name, gap in zip(written, gaps, strict=True)}
            told["watch/diag/calibration_gap"] = float(gaps.mean())
            told["watch/diag/confident_wrong"] = confident_wrong(found.y, found.p)
        if self._due(every.windows) and by_window.windows is not None:
            record = np.repeat(run.data.windows("val")[0], by_window.windows.shape[1])
            apart = kl_windows(by_window.windows.reshape(len(record), -1), record, single_label=single_label)
            told |= {} if apart is None else {"watch/diag/kl_windows": apart}
        if self._due(every.entropy_histogram):
            counts, edges = entropy_histogram(found.p, single_label=single_label)
            self._keep("entropy", epoch=np.int64(run.position.epoch), counts=counts, edges=edges)
        return told

    def _model(self) -> dict[str, float]:
        run, every, told = self._run, self._every, dict[str, float]()
        run.model.eval()
        if self._due(every.attention_entropy):
            told |= attention_entropy(attention_maps(run))
        if self._due(every.sharpness) or self._due(every.hessian_trace):
            with hessian(run) as of_probe:
                generator = torch.Generator().manual_seed(run.settings.seed)
                if self._due(every.sharpness):
                    told["watch/diag/sharpness"] = curvature.sharpness(of_probe, generator)
                if self._due(every.hessian_trace):
                    told["watch/diag/hessian_trace"] = curvature.trace(of_probe, generator)
        if self._due(every.trajectory):
            self.snapshots.append(flatten(run.trainable()))
        return told

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was kept, one array for each name, measurements along its first axis."""
        return {name: np.stack(values) for name, values in self.kept.items()}

    def _keep(self, name: str, **values: Any) -> None:
        for key, value in values.items():
            self.kept.setdefault(f"{name}/{key}", []).append(np.asarray(value))

    def _due(self, every: int | None) -> bool:
        return every is not None and self._run.position.epoch % every == 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "previous": None if self._previous is None else torch.from_numpy(self._previous),
            "kept": {name: [torch.from_numpy(value) for value in values] for name, values in self.kept.items()},
            "snapshots": [torch.from_numpy(weights) for weights in self.snapshots],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._previous = None if state["previous"] is None else state["previous"].numpy()
        self.kept = {name: [value.numpy() for value in values] for name, values in state["kept"].items()}
        self.snapshots = [weights.numpy() for weights in state["snapshots"]]
