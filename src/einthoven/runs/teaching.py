"""The teachers of one run: on its device, checked against its records, and compared with its predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from einthoven.contracts import Predictions
from einthoven.data.ancestry import Ancestry
from einthoven.data.store.batches import evaluation_batches
from einthoven.diagnostics.information import agreement, kl_drift
from einthoven.errors import UserError
from einthoven.models.ensemble import Ensemble
from einthoven.runs.check_augment import check_augment
from einthoven.runs.input_checks import refuse_other_input
from einthoven.runs.teachers import (
    Teacher,
    read_teachers,
    refuse_changed,
    refuse_other_outputs,
    refuse_other_window,
)
from einthoven.tracking.privacy import without_folders
from einthoven.training.evaluate import evaluate
from einthoven.training.precision import choose_autocast

if TYPE_CHECKING:
    from einthoven.runs.network_parts import NetworkParts

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
    teachers : list of Teacher
    ensemble : Ensemble
        Signals in mV to the logits of the mean probability of the teachers.

    Raises
    ------
    UserError
        If a teacher is missing or has changed, reads another input, has other classes, or has seen validation or test
        records.
    """

    def __init__(self, run: NetworkParts) -> None:
        self._run = run
        self._probabilities: dict[str, Predictions] = {}
        task = run.task
        classes = run.data.labels.classes
        self.teachers = read_teachers(task.teacher)
        refuse_changed(self.teachers, task.teacher_sha256)
        self.refuse_seen(HELD_OUT)
        for teacher in self.teachers:
            refuse_other_input(teacher.source, teacher.bundle.input_format, run.data.store.leads, run.data.store.fs)
            refuse_other_window(teacher, run.window)
            refuse_other_outputs(teacher, classes, task.single_label)
            self._try(teacher)

        # Members may list the classes in another order.
        bundles = [teacher.bundle for teacher in self.teachers]
        columns = [torch.tensor([bundle.classes.index(name) for name in classes]) for bundle in bundles]
        temperatures = [bundle.temperature for bundle in bundles]
        models = [bundle.model for bundle in bundles]
        self.ensemble = Ensemble(models, columns, temperatures, task.single_label).to(run.device)

    def refuse_seen(self, names: Mapping[str, str]) -> None:
        """Refuse teachers that were trained on records of some splits. Same parameters as `Data.refuse_seen`."""
        for teacher in self.teachers:
            self._run.data.refuse_seen(names, teacher.bundle.ancestry, teacher.source)

    def _try(self, teacher: Teacher) -> None:
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
        ancestries = [teacher.bundle.ancestry for teacher in self.teachers]
        return tuple(ancestry for ancestry in ancestries if ancestry is not None)

    @property
    def description(self) -> str:
        """The teachers in words, without the folders of the user."""
        names = [without_folders(name) for name in self._run.task.teacher]
        listed = ", ".join(f"{name} ({t.sha256})" for name, t in zip(names, self.teachers, strict=True))
        return f"{len(names)} teacher{'s' * (len(names) > 1)}: {listed}"

    def metrics(self, split: str, predictions: Predictions) -> dict[str, float]:
        """Compare predictions of the records of a split with those of the teachers.

        Returns
        -------
        dict of str to float
            ``kl_teacher``, the mean of KL(teachers ‖ student) in nats at the temperature 1, and ``agreement_teacher``,
            the share of equal decisions.
        """
        is_single_label = self._run.task.single_label
        teacher_p = self._predict(split).p
        return {
            "kl_teacher": kl_drift(teacher_p, predictions.p, single_label=is_single_label),
            "agreement_teacher": agreement(teacher_p, predictions.p, single_label=is_single_label),
        }

    def _predict(self, split: str) -> Predictions:
        """Predict the records of a split by the teachers, once per run. The windows are those of the student."""
        if split not in self._probabilities:
            run = self._run
            # The logits of the ensemble are of the classes, and include the temperatures of its members.
            task = replace(run.task, temperature=1.0, reader=None)
            aggregate = run.settings.trainer.aggregate
            row_predictions = evaluate(
                self.ensemble,
                task,
                evaluation_batches(run.data.splits[split], size=run.evaluation_size),
                window=run.window,
                stride=run.stride,
                aggregate=aggregate,
                autocast=choose_autocast("fp32", run.device)[1],
            )
            self._probabilities[split] = run.data.by_record(split, row_predictions, aggregate)
        return self._probabilities[split]
