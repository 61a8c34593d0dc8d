"""The teachers of a distillation: read from the folders of runs and bundles, and compared with the options of a run.

The models of the teachers are not copied into the folder of the run. Its configuration has a hash of each teacher, so
that a run is resumed with the same teachers or not at all. To evaluate or to use the student, no teacher is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from einthoven.build import check
from einthoven.errors import UserError
from einthoven.runs.config.options import editable_copy
from einthoven.runs.config.settings import is_feature_model
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.network.members import Member, NetworkMember, read_member, refuse_other_outputs
from einthoven.tasks.distillation import AS_TEACHER, Distillation
from einthoven.trust import find_target

if TYPE_CHECKING:
    from omegaconf import DictConfig

_LABEL_OPTIONS: dict[str, bool | float] = {"single_label": False, "keep_unlabelled": False, "min_likelihood": 0.0}
"""Options that belong to a label set, with their values in ``conf/task``."""


def is_distillation(config: DictConfig) -> bool:
    """Return whether a run learns from teachers."""
    target = find_target(config.task._target_, "task")
    return isinstance(target, type) and issubclass(target, Distillation)


def read_teachers(names: Sequence[str]) -> list[Member]:
    """Read the teachers that ``task.teacher`` names: folders of runs or bundles, or bundles of the package.

    Teachers that do not fit together are refused.
    """
    teachers = [read_member(name, "task.teacher") for name in names]
    for teacher in teachers[1:]:
        refuse_other_outputs(teacher, teachers[0].classes, teachers[0].single_label)
    return teachers


def with_teachers(config: DictConfig) -> DictConfig:
    """Return the configuration of a run with the label set and the hashes of its teachers.

    The configuration of a run without teachers is returned unchanged. Raises a `UserError` if a teacher cannot be read,
    has changed, or does not suit the options.
    """
    check(config.task, "task")
    if not is_distillation(config) or not config.task.teacher:
        # The task itself refuses an empty list of teachers.
        return config
    if is_feature_model(config):
        raise UserError(
            "task=distill: this model is fitted to labels at once, and does not read the probabilities of a teacher; "
            "expected a network."
        )
    teachers = read_teachers(list(config.task.teacher))
    refuse_changed(teachers, list(config.task.get("teacher_sha256") or []))
    leads = config.data.get("leads")
    for teacher in teachers:
        refuse_other_input(teacher.source, teacher, leads, config.data.get("fs"))

    filled = editable_copy(config)
    filled.task.teacher_sha256 = [teacher.sha256 for teacher in teachers]
    if config.task.labels == AS_TEACHER:
        for name, value in _label_options(teachers[0], config).items():
            filled.task[name] = value
    return filled


def _label_options(teacher: Member, config: DictConfig) -> dict[str, Any]:
    """Return the label set of a teacher, and the options that belong to it.

    Raises a `UserError` if the teacher does not name its label set, or an option of the run contradicts it.
    """
    options = teacher.options
    labels = options.get("task.labels")
    if not isinstance(labels, str):
        raise UserError(f"{teacher.source}: does not name its label set; expected task.labels=SET too.")
    taken: dict[str, Any] = {"labels": labels}
    for name, default in _LABEL_OPTIONS.items():
        of_teacher = options.get(f"task.{name}", default)
        if type(of_teacher) not in (bool, int, float):
            raise UserError(f"{teacher.source}: states task.{name}={str(of_teacher)[:100]!r}; expected a number.")
        of_run = config.task[name]
        if of_run not in (default, of_teacher):
            raise UserError(
                f"task.{name}={_as_option(of_run)}: the teacher was trained with {_as_option(of_teacher)}; expected "
                f"the same, or task.labels={labels} too, so that the labels are not those of the teacher."
            )
        taken[name] = of_teacher
    return taken


def _as_option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def refuse_changed(teachers: Sequence[Member], expected: Sequence[str]) -> None:
    """Refuse teachers whose hashes are not those of the configuration. An empty list expects nothing."""
    if not expected:
        return
    if len(expected) != len(teachers):
        raise UserError(
            f"task.teacher_sha256: {len(expected)} hashes for {len(teachers)} teachers; expected one for each."
        )
    for teacher, sha256 in zip(teachers, expected, strict=True):
        if teacher.sha256 != sha256:
            raise UserError(
                f"{teacher.source}: has changed since this run was started (its hash was {sha256} and is "
                f"{teacher.sha256}); expected the same teacher, or a new training."
            )


def refuse_other_window(teacher: NetworkMember, window: int) -> None:
    """Refuse a run whose windows have another length, in samples, than those of a teacher."""
    reads = teacher.bundle.input_format
    if window != reads.window:
        raise UserError(
            f"{teacher.source}: reads windows of {reads.window / reads.fs:g} s, and this run has windows of "
            f"{window / reads.fs:g} s; expected the same (trainer.window={reads.window / reads.fs:g})."
        )
