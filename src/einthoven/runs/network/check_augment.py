"""Try the augmentation of a run on some training records before the training begins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from einthoven.augment.compose import Compose
from einthoven.data.sources.labels import Labels
from einthoven.data.store.splits import Split
from einthoven.errors import UserError, first_line
from einthoven.functional.statements import changed_classes
from einthoven.runs.network.build_model import SIZE_ERRORS
from einthoven.terminal.display import say

TRIED_RECORDS = 4
"""Training records that an augmentation is tried on."""


def check_changed_labels(augment: Any, labels: Labels) -> None:
    """Refuse an augmentation that makes labels of the task wrong.

    A warning would be read after the run, if at all. So ``augment.allow_changes=true`` is needed, which stands among
    the parameters of the run.
    """
    transforms: Mapping[str, Any] = getattr(augment, "transforms", {"augment": augment})
    for name, transform in transforms.items():
        changed = changed_classes(getattr(transform, "changes", ()), labels.classes, labels.class_of)
        if not changed:
            continue
        names = []
        for label, statements in changed.items():
            names.append(label if statements == (label,) else f"{label} ({' '.join(statements)})")
        listed = ", ".join(names)
        if not getattr(augment, "allow_changes", False):
            raise UserError(
                f"augment: {name} can make labels of this task true or false: {listed}; leave it out "
                "(its probability=0), choose another task, or accept that with augment.allow_changes=true."
            )
        say(f"The augmentation {name} can make labels wrong: {listed}. augment.allow_changes allows this.")


def check_augment(augment: Any, model: nn.Module, train: Split, window: int, seed: int) -> None:
    """Refuse an augmentation that fails, or whose output is not finite, is flat, or cannot be read by the model."""
    rows = torch.arange(min(TRIED_RECORDS, len(train)), device=train.labels.device)
    generator = torch.Generator(train.labels.device).manual_seed(seed)
    x = train.take(rows, window)
    y = train.labels[rows]
    transforms = augment.transforms if isinstance(augment, Compose) else {"": augment}
    for name, transform in transforms.items():
        key = f"augment.transforms.{name}" if name else "augment"
        options = ", ".join(f"{option}={value}" for option, value in vars(transform).items() if option != "transforms")
        subject = f"{key} ({options})" if options else key
        had_signal = _has_signal(x)
        with _application_errors(subject):
            x, y = transform(x, y, generator)
        if len(x) != len(rows) or not (x.isfinite().all() and y.isfinite().all()):
            raise UserError(
                f"{subject}: what it makes of the first training records is not finite, or not as many records."
            )
        if had_signal and not _has_signal(x):
            raise UserError(f"{subject}: it leaves no signal in the first training records; expected less of it.")
    was_training = model.training
    try:
        with _application_errors("augment"), torch.no_grad():
            model.eval()(x)
    finally:
        model.train(was_training)


def _has_signal(x: Tensor) -> bool:
    """Return whether a lead of a record has more than one value in signals (B, L, T)."""
    return bool((x != x[:, :, :1]).any())


@contextmanager
def _application_errors(subject: str) -> Iterator[None]:
    """Turn an error of an augmentation, or of the model after it, into one sentence."""
    try:
        yield
    except SIZE_ERRORS as error:
        raise UserError(
            f"{subject}: cannot be applied to these records, or not with this model ({first_line(error)})."
        ) from error
