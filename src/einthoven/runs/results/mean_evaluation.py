"""The mean of the probabilities of a run and of other models, evaluated on the records of the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic, write_text
from einthoven.contracts import Predictions
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration
from einthoven.predict.model_folder import BUNDLE
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.network.members import NetworkMember, predict_members, read_member, refuse_other_outputs
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.schema import EvaluationOptions
from einthoven.tracking.privacy import without_folders

MEAN = "mean"
"""Name of the folder, in the folder of a run, for the evaluation of a mean, and of the mean in metrics."""

NETWORK = "network"
"""Name of the network alone, beside the other models of its mean."""

PREDICTIONS = "predictions.parquet"

Float = NDArray[np.float64]


class MeanOfModels:
    """A run and other models, which answer with the mean of their probabilities before any calibration.

    Parameters
    ----------
    run : NetworkParts
        Its records are predicted.
    options : EvaluationOptions
        ``mean_with`` names the other models, and ``weights`` are the weights of the run and of each of them.

    Raises
    ------
    UserError
        If another model cannot be read, has other classes or another input, or has seen one of the records.
    """

    def __init__(self, run: NetworkParts, options: EvaluationOptions) -> None:
        self.run = run
        self.members = [read_member(name, "mean_with") for name in options.mean_with]
        judged = {split: split for split in (options.fit, options.report)}
        for member in self.members:
            refuse_other_outputs(member, run.data.labels.classes, run.task.single_label)
            refuse_other_input(member.source, member, run.data.store.leads, run.data.store.fs)
            run.data.refuse_seen(judged, member.ancestry, member.source)
            if isinstance(member, NetworkMember) and member.bundle.members:
                raise UserError(
                    f"{member.source}: is itself the mean of a network and other models; expected the runs of its "
                    "members."
                )
        weights = np.array(options.weights or [1.0] * (1 + len(self.members)))
        self.weights = weights / weights.sum()
        self._answers: dict[tuple[str, str | None], tuple[Float, Float]] = {}

    def evaluate(self, split: str, aggregate: str | None = None) -> Predictions:
        """Predict the records of a split: the mean of the models for each row, aggregated over the rows of a record.

        `aggregate` is ``mean`` or ``max``, for the windows of all networks and for the rows. By default, each network
        has the rule of its training, and the rows have that of the run.
        """
        y, answers = self._answer(split, aggregate)
        mean = Predictions(y, np.tensordot(self.weights, answers, axes=1))
        return self.run.data.by_record(split, mean, aggregate or self.run.settings.trainer.aggregate)

    def evaluate_each(self, split: str) -> list[Predictions]:
        """Predict the records of a split by the run and by each other model, in this order."""
        y, answers = self._answer(split, None)
        rule = self.run.settings.trainer.aggregate
        return [self.run.data.by_record(split, Predictions(y, p), rule) for p in answers]

    def _answer(self, split: str, aggregate: str | None) -> tuple[Float, Float]:
        """Return the labels (n, K) of the rows of a split, and the probabilities (M, n, K) of each model.

        They are computed once.
        """
        if (split, aggregate) not in self._answers:
            own = self.run.predict(split, "fp32", aggregate)
            others = predict_members(self.run, self.members, split, aggregate)
            self._answers[split, aggregate] = own.y, np.concatenate([own.p[None], others])
        return self._answers[split, aggregate]

    def describe(self) -> list[dict[str, Any]]:
        """Return the name, the hash and the weight of each member, without the folders of the user."""
        described: list[dict[str, Any]] = [{"run": without_folders(str(self.run.folder)), "weight": self.weights[0]}]
        for member, weight in zip(self.members, self.weights[1:], strict=True):
            name = without_folders(member.source.removeprefix("mean_with="))
            described.append({"run": name, "sha256": member.sha256, "weight": weight})
        return described


def check_mean(options: EvaluationOptions) -> None:
    """Refuse options that do not suit the evaluation of a mean, or have no effect without one."""
    count = 1 + len(options.mean_with)
    if options.weights and not options.mean_with:
        raise UserError(f"weights={options.weights}: has no effect without mean_with=[RUN,…].")
    if options.weights and len(options.weights) != count:
        raise UserError(
            f"weights={options.weights}: {len(options.weights)} weights for {count} models; expected one for the run "
            "and one for each model of mean_with, or [] for equal weights."
        )
    if options.mean_with and options.laplace:
        raise UserError("laplace=true: integrates the weights of one network; expected false, or no mean_with.")


def write_mean(
    mean: MeanOfModels,
    options: EvaluationOptions,
    content: Mapping[str, Any],
    raw: Predictions,
    calibration: Calibration,
) -> Path:
    """Write the results of a mean, and a table of its predictions of the reported split. Return their folder.

    The predictions are those before the calibration, which is fitted to the mean. The bundle of an earlier mean is
    removed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    run = mean.run
    place = run.folder / MEAN
    place.mkdir(exist_ok=True)
    # The bundle of an earlier mean would not belong to these results.
    shutil.rmtree(place / BUNDLE, ignore_errors=True)
    records = run.data.table(options.report)
    columns: dict[str, list[Any]] = {
        "ecg_id": records["ecg_id"].tolist(),
        "record_id": records["record_id"].tolist(),
    }
    columns |= run.task.table(raw.y, raw.p, run.data.labels.classes)
    for name, calibrated_p in zip(run.data.labels.classes, calibration.transform(raw.p).T, strict=True):
        columns[f"{name}_calibrated"] = np.round(calibrated_p, 6).tolist()
    with atomic(place / PREDICTIONS) as partial:
        pq.write_table(pa.table(columns), partial)
    write_text(place / "evaluation.json", json.dumps({"mean": mean.describe(), **content}, indent=2) + "\n")
    return place
