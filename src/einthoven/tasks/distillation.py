"""Distillation: classify records as a teacher does, or as the mean of several teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.functional import outputs
from einthoven.functional.information import kl_of_logits
from einthoven.tasks.classification import Classification

Teach = Callable[[Tensor, float, Tensor | None], Tensor]
"""(signals (B, L, T) in mV, temperature, known probabilities (B, M, K) of M teachers) -> logits (B, K) of all teachers
at this temperature, without gradient."""

DIRECTIONS = ("forward", "reverse")

AS_TEACHER = "teacher"
"""The option ``labels`` that asks for the label set of the teacher."""


@dataclass(frozen=True)
class Distillation(Classification):
    """Classify records into the classes of a teacher, and learn from its probabilities.

    The loss of a record is ``(1 - λ) T² KL + λ L``. KL is the divergence between the probabilities of teacher and
    student, in nats, where both divide their logits by T. L is the loss of the true labels. The gradient of the
    divergence shrinks as 1/T², and the factor T² makes up for that. Predictions and metrics are those of a
    classification, with the true labels. Parameters that are not listed are those of `Classification`. The option
    ``labels`` may be ``teacher``: the run replaces it by the label set of the teacher.

    Parameters
    ----------
    teacher : sequence of str
        Folders of runs or bundles. The probability of several teachers is the mean of their probabilities.
    teacher_weights : sequence of float
        Weight of each teacher in this mean, above 0. Empty: equal weights.
    teacher_sha256 : sequence of str
        Hash of each teacher. The run fills it in, and a resumed run compares it with the teacher that it finds.
    kl_temperature : float
        T. It divides the logits of the divergence only, and not those of a prediction as `temperature` does.
    direction : str
        ``forward``: KL(teacher ‖ student). ``reverse``: KL(student ‖ teacher).
    label_weight : float
        λ, from 0 (only the teacher counts) to 1 (only the labels count).
    teach : callable, optional
        The teachers. `taught_by` sets it.
    known_teachers : int
        M, the number of teachers that read no signals. Their probabilities (M K columns) are the last columns of the
        training labels, so that an augmentation mixes them as it mixes the labels. `taught_by` sets it.

    Raises
    ------
    UserError
        If an option is out of its range, or has no effect.

    References
    ----------
    Hinton, Vinyals & Dean, "Distilling the knowledge in a neural network", 2015, section 2. Beyer et al., "Knowledge
    distillation: a good teacher is patient and consistent", CVPR 2022: teacher and student see the same augmented
    signals.
    """

    teacher: Sequence[str] = field(kw_only=True)
    teacher_weights: Sequence[float] = ()
    teacher_sha256: Sequence[str] = ()
    kl_temperature: float = 1.0
    direction: str = "forward"
    label_weight: float = 0.0
    teach: Teach | None = None
    known_teachers: int = 0

    def __post_init__(self) -> None:
        """Check the ranges, and refuse options of the labels where the labels do not count."""
        super().__post_init__()
        if not self.teacher:
            raise UserError("task.teacher=[]: expected one or more folders of runs or bundles: task.teacher=[RUN,…].")
        if self.teacher_weights and len(self.teacher_weights) != len(self.teacher):
            raise UserError(
                f"task.teacher_weights={list(self.teacher_weights)}: {len(self.teacher_weights)} weights for "
                f"{len(self.teacher)} teachers; expected one for each, or [] for equal weights."
            )
        if not all(0 < weight < float("inf") for weight in self.teacher_weights):
            raise UserError(f"task.teacher_weights={list(self.teacher_weights)}: expected numbers above 0.")
        if not 0 < self.kl_temperature < float("inf"):
            raise UserError(f"task.kl_temperature={self.kl_temperature}: expected a number above 0.")
        if self.direction not in DIRECTIONS:
            raise UserError(f"task.direction={self.direction}: expected {' or '.join(DIRECTIONS)}.")
        if not 0 <= self.label_weight <= 1:
            raise UserError(f"task.label_weight={self.label_weight}: expected a number from 0 to 1.")
        if self.label_weight == 0:
            self._refuse_unused_labels()

    def _refuse_unused_labels(self) -> None:
        """Refuse a loss of the labels, and options of the labels, if the loss does not read the labels."""
        given = {"task.shuffle_labels=true": self.shuffle_labels}
        options = self._cross_entropy_options()
        if options is None:
            function = getattr(self.objective, "func", self.objective)
            given[f"loss={getattr(function, '__name__', function)}"] = True
        else:
            smoothing = options.get("label_smoothing", 0.0)
            weights = options.get("class_weight", "none")
            given[f"loss.label_smoothing={smoothing}"] = smoothing != 0
            given[f"loss.class_weight={weights}"] = weights != "none"
        for option, is_given in given.items():
            if is_given:
                raise UserError(
                    f"{option}: has no effect with task.label_weight=0, where the loss does not read the labels; "
                    "expected a task.label_weight above 0, or no such option."
                )

    def taught_by(self, teach: Teach, known_teachers: int = 0) -> Distillation:
        """Return the task with its teachers."""
        return replace(self, teach=teach, known_teachers=known_teachers)

    def class_labels(self, y: Tensor) -> Tensor:
        """Return the labels of the classes (..., K) in the labels of records, without the columns of the teachers."""
        if self.prior is None:
            return super().class_labels(y)
        return y[..., : len(self.prior)]

    def _known_p(self, y: Tensor) -> Tensor | None:
        """Return the known probabilities (B, M, K) in the labels of training records; None if no teacher has some."""
        if not self.known_teachers:
            return None
        assert self.prior is not None
        columns = self.known_teachers * len(self.prior)
        return y[:, -columns:].reshape(len(y), self.known_teachers, len(self.prior))

    @property
    def loss_is_cross_entropy(self) -> bool:
        """Whether the loss is the unweighted cross-entropy of the predictions with the labels."""
        return self.label_weight == 1 and super().loss_is_cross_entropy

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the mean loss over the valid records, and the logits of the student, (B, K) or (B, S).

        Raises
        ------
        ValueError
            If the task has no teachers yet.
        """
        label_loss, logits = super().loss(model, batch)
        if self.label_weight == 1:
            return label_loss, logits
        if self.teach is None:
            raise ValueError("a distillation needs its teachers before it has a loss")
        teacher_logits = self.teach(batch.x, self.kl_temperature, self._known_p(batch.y))
        divergence = self.divergence(teacher_logits, self.class_logits(logits))
        teacher_loss = (divergence * batch.valid).sum() / batch.valid.sum()
        if self.label_weight == 0:
            return teacher_loss, logits
        return (1 - self.label_weight) * teacher_loss + self.label_weight * label_loss, logits

    def divergence(self, teacher_logits: Tensor, logits: Tensor) -> Tensor:
        """Return ``T² KL`` of each record in nats (B,), in the direction of the task.

        Parameters
        ----------
        teacher_logits : Tensor (B, K)
            Logits of the teachers at the temperature T.
        logits : Tensor (B, K)
            Logits of the student at the temperature 1.
        """
        student_logits = outputs.tempered(logits, self.kl_temperature)
        if self.direction == "reverse":
            divergence = kl_of_logits(student_logits, teacher_logits, self.single_label)
        else:
            divergence = kl_of_logits(teacher_logits, student_logits, self.single_label)
        return self.kl_temperature**2 * divergence
