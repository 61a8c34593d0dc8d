"""The teachers of one run: on its device, checked against its records, and compared with its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from einthoven.contracts import Predictions
from einthoven.data.ancestry import Ancestry
from einthoven.diagnostics.information import agreement, kl_drift
from einthoven.errors import UserError
from einthoven.models.ensemble import Ensemble
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.data.run_data import Data
from einthoven.runs.network.check_augment import check_augment
from einthoven.runs.network.members import (
    PARTS,
    FeatureMember,
    NetworkMember,
    features_of,
    predict_members,
    refuse_other_outputs,
)
from einthoven.runs.network.teachers import read_teachers, refuse_changed, refuse_other_window
from einthoven.terminal.display import say
from einthoven.tracking.privacy import without_folders

if TYPE_CHECKING:
    from einthoven.runs.network.network_parts import NetworkParts

HELD_OUT = {"val": "val", "test": "test"}
"""Splits whose records a teacher must not have seen."""


class Teaching:
    """The teachers of one run, on its device.

    Parameters
    ----------
    run : NetworkParts
        Its task is a `Distillation`.

    Attributes
    ----------
    networks, feature_models : list of NetworkMember and of FeatureMember
        The same, by their kind.
    weights : ndarray, shape (M,)
        Weight of each teacher in the mean. They sum to 1.
    ensemble : Ensemble
        Signals in mV, and the answers of the models of features, to the logits of the mean probability.

    Raises
    ------
    UserError
        If a teacher is missing or has changed, reads another input, has other classes, or has seen validation or test
        records.
    """

    def __init__(self, run: NetworkParts) -> None:
        self._run = run
        self._probabilities: dict[str, NDArray[np.float64]] = {}
        task = run.task
        self.teachers = read_teachers(task.teacher)
        refuse_changed(self.teachers, task.teacher_sha256)
        self.refuse_seen(HELD_OUT)
        for teacher in self.teachers:
            refuse_other_input(teacher.source, teacher, run.data.store.leads, run.data.store.fs)
            refuse_other_outputs(teacher, run.data.labels.classes, task.single_label)
            if isinstance(teacher, NetworkMember):
                refuse_other_window(teacher, run.window)
                self._try_augmentation(teacher)
                if teacher.bundle.members:
                    say(
                        f"{teacher.source}: only the network teaches. The models of ECG measurements in its bundle do "
                        "not."
                    )
            elif run.settings.trainer.sampler != "shuffle":
                raise UserError(
                    f"trainer.sampler={run.settings.trainer.sampler}: counts the labels of a record, and with "
                    f"{teacher.source} a record also has the probabilities of this model; expected shuffle."
                )
        self.networks = [teacher for teacher in self.teachers if isinstance(teacher, NetworkMember)]
        self.feature_models = [teacher for teacher in self.teachers if isinstance(teacher, FeatureMember)]
        weights = np.array(task.teacher_weights or [1.0] * len(self.teachers))
        self.weights = weights / weights.sum()
        self.ensemble = self._make_ensemble()

    def _make_ensemble(self) -> Ensemble:
        """Return the teachers as one network. The models of features come last, and their answers are known to it."""
        run = self._run
        is_network = np.array([isinstance(teacher, NetworkMember) for teacher in self.teachers])
        return Ensemble(
            [network.bundle.model for network in self.networks],
            [network.columns(run.data.labels.classes) for network in self.networks],
            [network.bundle.temperature for network in self.networks],
            run.task.single_label,
            np.concatenate([self.weights[is_network], self.weights[~is_network]]).tolist(),
        ).to(run.device)

    def with_answers(self, data: Data) -> Data:
        """Return the data of the run with the answers of the models of features behind the labels for the training."""
        if not self.feature_models:
            return data
        features = features_of(self._run, "train")
        answers = [teacher.predict_unseen(self._run, features) for teacher in self.feature_models]
        names = ", ".join(type(teacher.model).__name__ for teacher in self.feature_models)
        say(
            f"{names}: each training record gets the probabilities of a fit without its patient ({PARTS - 1} of "
            f"{PARTS} parts of the records)."
        )
        return data.with_training_columns(np.concatenate(answers, axis=1))

    def refuse_seen(self, names: Mapping[str, str]) -> None:
        """Refuse teachers that were trained on records of some splits. Same parameters as `Data.refuse_seen`."""
        for teacher in self.teachers:
            self._run.data.refuse_seen(names, teacher.ancestry, teacher.source)

    def _try_augmentation(self, teacher: NetworkMember) -> None:
        """Refuse a teacher that cannot read what the augmentation makes of the training records."""
        run = self._run
        model = teacher.bundle.model.to(run.device)
        try:
            check_augment(run.augment, model, run.data.splits["train"], run.window, run.settings.seed)
        except UserError as error:
            raise UserError(f"{teacher.source}: {error}") from None

    @property
    def ancestors(self) -> tuple[Ancestry, ...]:
        """The records that the teachers have seen."""
        ancestries = [teacher.ancestry for teacher in self.teachers]
        return tuple(ancestry for ancestry in ancestries if ancestry is not None)

    @property
    def description(self) -> str:
        """The teachers in words, without the folders of the user."""
        names = [without_folders(name) for name in self._run.task.teacher]
        listed = [f"{name} ({teacher.sha256})" for name, teacher in zip(names, self.teachers, strict=True)]
        return f"{len(names)} teacher{'s' * (len(names) > 1)}: {', '.join(listed)}"

    def metrics(self, split: str, predictions: Predictions) -> dict[str, float]:
        """Compare predictions of the records of a split with those of the teachers.

        ``kl_teacher`` is the mean of KL(teachers ‖ student) in nats at the temperature 1, and ``agreement_teacher`` is
        the share of equal decisions.
        """
        is_single_label = self._run.task.single_label
        teacher_p = self._predict(split)
        return {
            "kl_teacher": kl_drift(teacher_p, predictions.p, single_label=is_single_label),
            "agreement_teacher": agreement(teacher_p, predictions.p, single_label=is_single_label),
        }

    def _predict(self, split: str) -> NDArray[np.float64]:
        """Return the mean probabilities (n, K) of the teachers for the records of a split. Predict once per run."""
        if split not in self._probabilities:
            answers = predict_members(self._run, self.teachers, split)
            mean = np.tensordot(self.weights, answers, axes=1)
            rule = self._run.settings.trainer.aggregate
            self._probabilities[split] = self._run.data.by_record(split, Predictions(mean, mean), rule).p
        return self._probabilities[split]
