"""Options of a training run: folds, trainer, seed, diagnostics and tracking."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields

from einthoven.schema.checks import LARGEST, require


@dataclass
class Folds:
    """Stratified folds of each split."""

    train: list[int]
    """Folds of the training records."""
    val: list[int]
    """Folds that are evaluated during training. May be empty."""
    test: list[int]
    """Folds that are reported at the end. May be empty."""
    cross_validate: bool
    """Hold out each training fold in turn, and pool the predictions."""


@dataclass
class Trainer:
    """Options of the training loop."""

    epochs: int
    """Passes over the training records."""
    batch_size: int | None
    """Records per step. null: all training records (full-batch gradient descent)."""
    micro_batch: int | None
    """Largest number of records in one forward pass; gradients of a batch are summed. null: the whole batch.

    It is halved if memory runs out.
    """
    clip_norm: float | None
    """Largest global gradient norm. null: no clipping."""
    precision: str
    """auto, fp32 or bf16."""
    device: str
    """auto, cuda, mps or cpu."""
    select: str
    """Weights that are reported and exported: last, or best on validation."""
    patience: int | None
    """Stop after so many epochs without a better validation AUROC (R² in regression). null: train to the end."""
    window: float | None
    """Length, in seconds, of a training crop and of a window in evaluation. null: whole records."""
    stride: float | None
    """Distance, in seconds, between the windows of a record in evaluation. null: half of `window`."""
    aggregate: str
    """Prediction of a record: mean or max of the probabilities of its windows."""
    sampler: str
    """Records of an epoch. shuffle: each record once. balanced: drawn by inverse class frequency."""
    residency: str
    """device: all signals stay in device memory. stream: each batch is sent to the device.

    auto: stream if the signals need more than half of the free memory of the device.
    """
    # Runs of earlier versions do not have these options.
    finetune: str | None = None
    """Stages that train, where the run starts from a base: full, probe or gradual. null: full."""
    layer_decay: float = 1.0
    """Learning rate of a stage of a base, relative to that of the stage behind it."""
    freeze_norms: bool = False
    """Keep the running statistics of all batch norms of a base."""
    checkpoint_minutes: float | None = 10.0
    """Time between two checkpoints within an epoch. null: only at the end of an epoch."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, which becomes the model of the run. null: no average."""
    profile: int | None = None
    """Profile so many steps: a table of operations, one of layers, and a chrome trace, as artifacts. null: none."""
    compile: bool = False
    """Compile the forward and backward pass of the training steps with torch.compile."""
    swa: int | None = None
    """Average the weights at the ends of so many last epochs (SWA): the model of the run. null: no average."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(self.epochs >= 1, "trainer.epochs", self.epochs, "a number of epochs, 1 or more")
        for name in ("batch_size", "micro_batch"):
            size = getattr(self, name)
            require(size is None or size >= 1, f"trainer.{name}", size, "a number of records, 1 or more, or null")
        require(
            self.clip_norm is None or 0 < self.clip_norm < LARGEST,
            "trainer.clip_norm",
            self.clip_norm,
            "a positive norm that float32 holds, or null",
        )
        require(self.select in ("last", "best"), "trainer.select", self.select, "last or best")
        require(
            self.patience is None or self.patience >= 1,
            "trainer.patience",
            self.patience,
            "1 or more epochs, or null",
        )
        require(self.window is None or 0 < self.window < math.inf, "trainer.window", self.window, "seconds, or null")
        require(self.stride is None or 0 < self.stride < math.inf, "trainer.stride", self.stride, "seconds, or null")
        require(self.sampler in ("shuffle", "balanced"), "trainer.sampler", self.sampler, "shuffle or balanced")
        require(
            self.residency in ("auto", "device", "stream"),
            "trainer.residency",
            self.residency,
            "auto, device or stream",
        )
        require(self.aggregate in ("mean", "max"), "trainer.aggregate", self.aggregate, "mean or max")
        minutes = self.checkpoint_minutes
        require(
            minutes is None or 0 <= minutes < math.inf,
            "trainer.checkpoint_minutes",
            minutes,
            "a number of minutes, 0 or more (0: after each step), or null",
        )
        self._check_average()
        require(self.profile is None or self.profile >= 1, "trainer.profile", self.profile, "1 or more steps, or null")
        modes = (None, "full", "probe", "gradual")
        require(self.finetune in modes, "trainer.finetune", self.finetune, "full, probe or gradual, or null")
        require(0 < self.layer_decay <= 1, "trainer.layer_decay", self.layer_decay, "a number above 0, 1 at most")
        has_one_stage = self.finetune == "probe" and self.layer_decay != 1
        require(not has_one_stage, "trainer.layer_decay", self.layer_decay, "1 where trainer.finetune=probe")

    def _check_average(self) -> None:
        """Check the options of averaged weights."""
        require(
            self.ema is None or 0 < self.ema < 1,
            "trainer.ema",
            self.ema,
            "a decay between 0 and 1, such as 0.999, or null",
        )
        expected = f"a number of epochs, 1 to trainer.epochs={self.epochs}, or null"
        require(self.swa is None or 1 <= self.swa <= self.epochs, "trainer.swa", self.swa, expected)
        has_two = self.ema is not None and self.swa is not None
        require(not has_two, "trainer.swa", self.swa, "null where trainer.ema averages the weights")
        may_stop = self.swa is not None and self.patience is not None
        expected = "null where trainer.patience may end the training before its last epochs"
        require(not may_stop, "trainer.swa", self.swa, expected)


@dataclass
class Seed:
    """The seed of a run."""

    seed: int
    """All random numbers of a run depend on it."""

    def __post_init__(self) -> None:
        """Check the range, which all random generators accept."""
        require(0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 4294967295")


@dataclass
class Diagnostics:
    """Measurements during training. A number is an interval: in steps, or in epochs from `drift` on. null: never."""

    gradients: int | None
    """L2 norm of the gradient per stage, ratio of the first to the last stage, number of non-finite entries."""
    gradients_l1: int | None
    """L1 norm of the gradient per stage."""
    clipping: int | None
    """Share of clipped steps, and the gradient norm after clipping."""
    cosine: int | None
    """Cosine between the gradients of successive steps."""
    noise_scale: int | None
    """Gradient noise scale, which needs a second pass of the batch."""
    updates: int | None
    """Norm of the update per stage, and its ratio to the norm of the weights."""
    weights: int | None
    """L2 and L1 norm of the weights per stage."""
    spectral: int | None
    """Largest singular value of the weights per stage."""
    second_moments: int | None
    """Spread of the second moments in the optimizer."""
    predictions: int | None
    """Entropy of predictions and labels, KL divergence between labels and predictions, and between their means."""
    activations: int | None
    """Variance of the output of each stage."""
    dead: int | None
    """Share of the ReLU units of each stage that are zero for the whole batch."""
    drift: int | None
    """KL divergence between the predictions of two successive evaluations."""
    calibration: int | None
    """Calibration error of each class, and share of confident errors."""
    windows: int | None
    """Divergence between the predictions for the windows of a record."""
    entropy_histogram: int | None
    """Histogram of the predictive entropy, for a figure."""
    effective_rank: int | None
    """Effective number of dimensions of the features before the head."""
    attention_entropy: int | None
    """Entropy of the weights of each attention head."""
    sharpness: int | None
    """Largest eigenvalue of the Hessian of the loss."""
    hessian_trace: int | None
    """Trace of the Hessian of the loss."""
    trajectory: int | None
    """Snapshots of the weights, for a figure of their trajectory."""
    landscape: bool
    """Loss around the final weights, and along the trajectory if there is one, at the end of a run."""
    probe_records: int
    """Number of training records for attention, Hessian and landscape."""
    # Runs of earlier versions do not have these.
    representation: int | None = None
    """Alignment, uniformity, effective rank and collapsed dimensions of the embeddings of a pretraining, in epochs."""
    latents: int | None = None
    """Divergence of each latent dimension of a variational autoencoder from the prior, in epochs."""
    probe_auroc: int | None = None
    """AUROC of a linear probe on the embeddings of a pretraining, in epochs. It reads labels."""
    histograms: int | None = None
    """Histograms of weights, gradients, activations and probabilities, for figures of their change, in epochs."""
    log_odds: bool = False
    """Mean log-odds of each training record and class over the training, for the margins of `doctor labels`."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for field in fields(self):
            value = getattr(self, field.name)
            is_valid = value is None or value is False or value >= 1
            expected = "a whole number, 1 or more"
            if "None" in str(field.type):
                expected += ", or null"
            require(is_valid, f"diagnostics.{field.name}", value, expected)


@dataclass
class Tracking:
    """Options of the tracking of runs."""

    uri: str
    """MLflow tracking store: sqlite:///file, or the address of a server."""
    experiment: str
    """Name of the MLflow experiment."""
    run_name: str
    """Name of the run."""
    artifact_location: str | None
    """Location of the files of a new experiment. null: the default of the store."""
    interval: int
    """Number of steps between two writes of metrics."""
    patience: float
    """Time, in seconds, that the end of a run waits for a store that does not answer."""
    offline: bool
    """Write only to the run folder. `einthoven sync` sends the run later."""
    artifacts: bool
    """Log figures, predictions, checkpoints and the exported model. false: only metrics and parameters."""
    system_metrics: bool
    """Log load and memory of processor and GPU every ten seconds. Needs einthoven[system]."""
    register: str | None
    """Name in the model registry. The exported model becomes a version of it. null: no registration."""
    alias: str | None
    """Alias of that version. null: no alias."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        require(
            re.match(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://|https?://|databricks", self.uri) is not None,
            "tracking.uri",
            self.uri,
            "a database such as sqlite:///mlflow.db, or the address of a server (MLflow keeps no runs in folders)",
        )
        require(self.interval >= 1, "tracking.interval", self.interval, "a number of steps, 1 or more")
        require(self.patience >= 0, "tracking.patience", self.patience, "a number of seconds, 0 or more")
        is_exported = self.register is None or self.artifacts
        require(is_exported, "tracking.register", self.register, "null where tracking.artifacts=false exports no model")
        has_version = self.alias is None or self.register is not None
        require(has_version, "tracking.alias", self.alias, "null where tracking.register=null registers no model")
