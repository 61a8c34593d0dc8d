"""The fixed groups of the configuration: names, types and ranges. Values stand in ``conf/`` alone."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")

MOST_RESAMPLES = 1_000_000  # more take hours, and tell no more
LARGEST = 3.4e38  # float32 holds no larger number


def _require(holds: bool, key: str, value: object, expected: str) -> None:
    if not holds:
        raise UserError(f"{key}={value}: expected {expected}.")


@dataclass
class Folds:
    """Which stratified folds go where."""

    train: list[int]
    """Folds to fit on."""
    val: list[int]
    """Folds to watch during training; may be empty."""
    test: list[int]
    """Folds to report on at the end; may be empty."""
    cross_validate: bool
    """Hold out each training fold in turn instead, and pool the predictions."""


@dataclass
class Trainer:
    """How long, how large, where."""

    epochs: int
    """Passes over the training records."""
    batch_size: int | None
    """Records per step; null takes all training records: full-batch gradient descent."""
    micro_batch: int | None
    """Most records that pass through the model at once, the gradients of a batch adding up; null: the batch."""
    clip_norm: float | None
    """Largest global gradient norm; null leaves gradients as they are."""
    precision: str
    """auto, fp32 or bf16."""
    device: str
    """auto, cuda, mps or cpu."""
    select: str
    """Which weights are reported and exported: last, or best on validation."""
    patience: int | None
    """Stop after this many epochs without a better validation AUROC (of a quantity, R²); null trains to the end."""
    window: float | None
    """Seconds of signal in a training crop and in a window of evaluation; null takes whole records."""
    stride: float | None
    """Seconds between the windows of a record in evaluation, where `window` is set; null takes half a window."""
    aggregate: str
    """Over the windows of a record: mean or max of the probabilities."""
    sampler: str
    """Records of an epoch: shuffle takes each once, balanced draws them by inverse class frequency."""
    residency: str
    """Signals on the device, or stream; auto streams what half of the device's free memory does not hold."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require(self.epochs >= 1, "trainer.epochs", self.epochs, "a number of epochs, 1 or more")
        for name in ("batch_size", "micro_batch"):
            size = getattr(self, name)
            _require(size is None or size >= 1, f"trainer.{name}", size, "a number of records, 1 or more, or null")
        _require(
            self.clip_norm is None or 0 < self.clip_norm < LARGEST,
            "trainer.clip_norm",
            self.clip_norm,
            "a positive norm that float32 holds, or null",
        )
        _require(self.select in ("last", "best"), "trainer.select", self.select, "last or best")
        _require(
            self.patience is None or self.patience >= 1,
            "trainer.patience",
            self.patience,
            "1 or more epochs, or null",
        )
        _require(self.window is None or 0 < self.window < math.inf, "trainer.window", self.window, "seconds, or null")
        _require(self.stride is None or 0 < self.stride < math.inf, "trainer.stride", self.stride, "seconds, or null")
        _require(self.sampler in ("shuffle", "balanced"), "trainer.sampler", self.sampler, "shuffle or balanced")
        _require(
            self.residency in ("auto", "device", "stream"),
            "trainer.residency",
            self.residency,
            "auto, device or stream",
        )
        _require(self.aggregate in ("mean", "max"), "trainer.aggregate", self.aggregate, "mean or max")


@dataclass
class Seed:
    """The seed of a run."""

    seed: int
    """Every random number of a run follows from it."""

    def __post_init__(self) -> None:
        """Check the range that every generator takes."""
        _require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")


@dataclass
class Examination:
    """What `einthoven prepare` does beside packing."""

    doctor: bool
    """Examine every record of the store."""
    strict: bool
    """End with exit code 1 where a record has an error or a warning."""

    def __post_init__(self) -> None:
        """Strictness about what nobody looks for would be a promise that is not kept."""
        _require(self.doctor or not self.strict, "strict", self.strict, "false where doctor=false")


@dataclass
class EvaluationOptions:
    """How `einthoven evaluate` judges a finished run."""

    run: str
    """Folder of the run."""
    against: str | None
    """Folder of another run on the same records; null compares with none."""
    fit: str
    """Split that the calibration and the thresholds are fitted on: val or test."""
    report: str
    """Split that every figure is of: the other one."""
    laplace: bool
    """Integrate the weights of the last layer out, by their Laplace approximation on the training records."""
    resamples: int
    """Resamples of the bootstrap."""
    level: float
    """Nominal coverage of every interval."""
    interval: str
    """bca or percentile."""
    small: int
    """Patients below which a subgroup is marked small."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for key, value in (("fit", self.fit), ("report", self.report)):
            _require(value in ("train", "val", "test"), key, value, "val or test")
        _require(
            1 <= self.resamples <= MOST_RESAMPLES,
            "resamples",
            self.resamples,
            f"a number of resamples from 1 to {MOST_RESAMPLES:,}",
        )
        _require(0 < self.level < 1, "level", self.level, "a coverage between 0 and 1")
        _require(self.interval in ("bca", "percentile"), "interval", self.interval, "bca or percentile")
        _require(self.small >= 0, "small", self.small, "a number of patients, 0 or more")


@dataclass
class OtherFolds:
    """Folds to evaluate on in place of those of the run."""

    val: list[int] | None
    """For the split val; null: as in the run."""
    test: list[int] | None
    """For the split test; null: as in the run."""


@dataclass
class Diagnostics:
    """What is measured while training, and how often; null never measures it."""

    gradients: int | None
    """L2 norms of the gradient per stage, first stage over last, entries that are no finite numbers."""
    gradients_l1: int | None
    """L1 norms of the gradient per stage."""
    clipping: int | None
    """Steps that were clipped, and the norm of the gradient after it."""
    cosine: int | None
    """Angle between the gradients of successive steps."""
    noise_scale: int | None
    """Gradient noise scale, by another pass of the batch."""
    updates: int | None
    """Size of a step per stage, and over that of the weights."""
    weights: int | None
    """L2 and L1 norms of the weights per stage."""
    spectral: int | None
    """Largest singular value per stage."""
    second_moments: int | None
    """Spread of the optimizer's second moments."""
    predictions: int | None
    """Entropy of predictions and labels, divergence of the predictions from the labels, and of their means."""
    activations: int | None
    """Variance of each stage's output."""
    dead: int | None
    """Share of each stage's rectified units that are zero for the whole batch."""
    drift: int | None
    """Divergence of the predictions from those of the evaluation before; this and the following: in epochs."""
    calibration: int | None
    """Distance of the probabilities of each class from what is observed, and share of confident errors."""
    windows: int | None
    """Divergence between the windows of a record."""
    entropy_histogram: int | None
    """How many records have which predictive entropy; kept for a figure."""
    effective_rank: int | None
    """Directions that the features before the head use."""
    attention_entropy: int | None
    """How widely each head of attention looks."""
    sharpness: int | None
    """Largest eigenvalue of the Hessian of the loss."""
    hessian_trace: int | None
    """Sum of its eigenvalues."""
    trajectory: int | None
    """Weights that are kept for a figure of their way."""
    landscape: bool
    """The loss around the final weights, at the end of a run; with a trajectory, along their way too."""
    probe_records: int
    """Training records that attention, Hessian and landscape are of."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for f in fields(self):
            value = getattr(self, f.name)
            _require(
                value is None or value is False or value >= 1,
                f"diagnostics.{f.name}",
                value,
                "a whole number, 1 or more" + ", or null" * ("None" in str(f.type)),
            )


@dataclass
class Tracking:
    """Where runs are written."""

    uri: str
    """MLflow tracking store: sqlite:///file, or the address of a server."""
    experiment: str
    """Name of the MLflow experiment."""
    run_name: str
    """Name of the run."""
    artifact_location: str | None
    """Where a new experiment keeps its files; null: where the store says."""
    interval: int
    """Steps between two writes of metrics."""
    patience: float
    """Seconds that the end of a run waits for a store that does not answer."""
    offline: bool
    """Write to the run's folder alone, for `einthoven sync` to send it later."""
    artifacts: bool
    """Log figures, predictions, checkpoints and the exported model too; false: metrics and parameters alone."""
    system_metrics: bool
    """Load and memory of processor and GPU, sampled every ten seconds; needs einthoven[system]."""
    register: str | None
    """Name in the model registry that the exported model becomes a version of; null registers nothing."""
    alias: str | None
    """Alias of that version; null gives it none."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require(
            re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://|https?://|databricks", self.uri) is not None,
            "tracking.uri",
            self.uri,
            "a database such as sqlite:///mlflow.db, or the address of a server (MLflow keeps no runs in folders)",
        )
        _require(self.interval >= 1, "tracking.interval", self.interval, "a number of steps, 1 or more")
        _require(self.patience >= 0, "tracking.patience", self.patience, "a number of seconds, 0 or more")
        exported = self.register is None or self.artifacts
        _require(exported, "tracking.register", self.register, "null where tracking.artifacts=false exports no model")
        names = self.alias is None or self.register is not None
        _require(names, "tracking.alias", self.alias, "null, or a name in tracking.register whose version it names")


def typed(config: DictConfig, schema: type[T], key: str) -> T:
    """Read one group of the configuration as its dataclass.

    Raises
    ------
    UserError
        If a field is unknown or missing, or its value is not of the field's type or range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    from einthoven.build import unknown_name

    dotted = f"{key}." if key else ""
    names = [f.name for f in fields(schema)]  # type: ignore[arg-type]
    for name in map(str, config):
        if name not in names:
            raise UserError(unknown_name(f"{dotted}{name}", name, names))
    try:
        result = OmegaConf.to_object(
            OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.to_container(config, resolve=True))
        )
    except MissingMandatoryValue as error:
        raise UserError(f"{dotted}{error.full_key}: no value given.") from None
    except (ConfigKeyError, OmegaConfBaseException) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"{dotted}{error.full_key}: {message[0].lower()}{message[1:]}.") from None
    assert isinstance(result, schema)
    return result
