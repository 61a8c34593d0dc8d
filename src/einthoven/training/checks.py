"""Checks that end a training which diverged, or which moved no weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch, Position
from einthoven.errors import UserError
from einthoven.training.guard import Guard, all_finite

SKIPPED_STEPS_LIMIT = 10
"""Training ends after this many skipped steps in a row."""

MAX_RECORD_NAMES = 32
"""An error message names at most this many records."""


class TrainingChecks:
    """Checks between the steps of a training.

    Parameters
    ----------
    model : nn.Module
        The weights of this model are checked.
    position : Position
        Where the training begins.
    record_names : callable
        (`index` of a batch) -> names of its records, for error messages.

    Attributes
    ----------
    guard : Guard
        Skips the steps whose loss or gradient is not finite, and counts them.
    """

    def __init__(
        self,
        model: nn.Module,
        position: Position,
        record_names: Callable[[Tensor], Sequence[object]] = Tensor.tolist,
    ) -> None:
        self.guard = Guard(model)
        self.guard.continue_from(position.skipped_in_epoch, position.skipped_in_a_row)
        self._model = model
        self._record_names = record_names
        # Only a new training knows its first weights.
        is_new = position.step == 0
        self._first_weights = [p.detach().clone() for p in model.parameters()] if is_new else None

    def after_step(self, position: Position, batch: Batch) -> None:
        """End the training after ten skipped steps in a row.

        Raises
        ------
        UserError
        """
        # Device-to-host sync: every tenth step.
        if position.step % SKIPPED_STEPS_LIMIT == 0 and int(self.guard.skipped_in_a_row) >= SKIPPED_STEPS_LIMIT:
            raise self._diverged(SKIPPED_STEPS_LIMIT, position, batch)

    def allow_save(self, position: Position) -> bool:
        """Return whether a checkpoint within an epoch may be written, and note the skipped steps in the position.

        Weights that are not finite must not replace the last checkpoint.
        """
        # Device-to-host sync: once for each checkpoint.
        if not self._is_finite():
            return False
        position.skipped_in_epoch = self.guard.skipped
        position.skipped_in_a_row = int(self.guard.skipped_in_a_row)
        return True

    def end_epoch(self, position: Position, first_step: int, last_batch: Batch) -> None:
        """Refuse an epoch without a single step, or with weights that are not finite: it must not be saved.

        Add the skipped steps to the position.

        Raises
        ------
        UserError
        """
        # Device-to-host sync: three times per epoch.
        skipped = self.guard.take_skipped()
        if skipped == position.step - first_step > 0:
            raise self._diverged(skipped, position, last_batch)
        if not self._is_finite():
            raise UserError(
                f"training diverged: the weights are not finite after epoch {position.epoch} (step {position.step}). "
                "Try a lower learning rate or a smaller clipping norm."
            )
        position.skipped += skipped
        position.skipped_in_epoch = 0
        position.skipped_in_a_row = int(self.guard.skipped_in_a_row)

    def end_training(self, position: Position) -> None:
        """Refuse a training that moved no weight at all.

        Raises
        ------
        UserError
        """
        if self._first_weights is not None and not _have_moved(self._first_weights, list(self._model.parameters())):
            raise UserError(
                f"training has moved no weight in {position.step} steps. Try a larger learning rate, another schedule "
                "or a larger clipping norm."
            )

    def _is_finite(self) -> bool:
        return bool(all_finite([*self._model.parameters(), *self._model.buffers()]))

    def _diverged(self, count: int, position: Position, last_batch: Batch) -> UserError:
        """Return an error about `count` skipped steps in a row, with the records of the last batch."""
        names = self._record_names(last_batch.index)
        listed = ", ".join(map(str, names[:MAX_RECORD_NAMES]))
        if len(names) > MAX_RECORD_NAMES:
            listed += f" and {len(names) - MAX_RECORD_NAMES} more"
        plural = "" if count == 1 else "s"
        return UserError(
            f"training diverged: the loss or its gradient was not finite in {count} step{plural} in a row. The last "
            f"of them was step {position.step}. Try a lower learning rate or a smaller clipping norm, or look at the "
            f"records of that step (ecg_id {listed})."
        )


@torch.no_grad()
def _have_moved(before: Sequence[Tensor], after: Sequence[Tensor]) -> bool:
    """Return whether the weights changed by more than 10⁻¹² of their norm; float32 rounds at 10⁻⁷ of it."""
    distance = torch.stack([(b - a).norm().float() for a, b in zip(before, after, strict=True)]).norm()
    norm = torch.stack([a.norm().float() for a in before]).norm()
    # Device-to-host sync: once per run.
    return bool(distance > 1e-12 * norm)
