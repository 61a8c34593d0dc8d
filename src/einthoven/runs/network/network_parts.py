"""The parts of a network run, assembled once, and what does not need its training: to predict and to load weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from einthoven.augment.compose import Compose
from einthoven.build import build
from einthoven.contracts import ONE_PROCESS, Position, Predictions, Processes, TaskKind
from einthoven.data.ancestry import Ancestry
from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.models.frontend import Classifier
from einthoven.models.readout import Readout
from einthoven.optim.groups import check_learns, most_state_bytes
from einthoven.optim.layer_decay import decay_by_layer
from einthoven.optim.plateau import Plateau
from einthoven.predict.limits import Shapes, construction_limits
from einthoven.runs.base.finetuning import FineTuning, load_base
from einthoven.runs.config.settings import Settings, build_task, check_settings
from einthoven.runs.data import data_loading
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.data.run_data import training_ancestry
from einthoven.runs.folder.base_model import BaseModel, read_kept_base
from einthoven.runs.folder.checkpoint_checks import checkpoint_errors
from einthoven.runs.folder.trained_data import TrainedData
from einthoven.runs.folder.trained_run import read_last
from einthoven.runs.network.build_model import build_model, set_output_biases
from einthoven.runs.network.check_augment import check_augment, check_changed_labels
from einthoven.runs.network.pretraining import (
    Pair,
    check_patients,
    check_pretraining,
    evaluate_pretext,
    pair_by_patient,
)
from einthoven.tasks.pretext import Pretext
from einthoven.terminal.display import say
from einthoven.training import checkpoint
from einthoven.training.evaluate import evaluate
from einthoven.training.memory import MicroBatch, memory_for
from einthoven.training.precision import choose_autocast, choose_device

if TYPE_CHECKING:
    from omegaconf import DictConfig

MIN_EVALUATION_BATCH = 32
MAX_EVALUATION_BATCH = 256
"""Full-batch training does not ask for full-batch evaluation."""


class NetworkParts:
    """The parts of a network run: data, task, model, optimizer, schedule, penalty and augmentation.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``.
    folder : Path
        Folder of the run.
    trained : TrainedData or None
        The data that the run was trained on before. The records must still be the same.
    base : BaseModel or None
        The model that a new run starts from. A run that was trained before has a copy of it in its folder.
    processes : Processes
        The processes that train this run together.
    settings : Settings or None
        Those of the configuration, if it has been checked already.

    Attributes
    ----------
    checkpoints : Path
        Folder of the checkpoints.
    monitor : str
        Name of the metric that early stopping, the choice of weights and a plateau use. More is better.
    window, stride : int
        Lengths in samples.
    micro_batch : MicroBatch
        Number of records that pass through the model at once.
    evaluation_batch : MicroBatch
        The same in an evaluation.
    ancestors : tuple of Ancestry
        The records that other models have seen, if this one is made from them.

    Raises
    ------
    UserError
        If the parts do not fit together.
    """

    def __init__(
        self,
        config: DictConfig,
        folder: Path,
        trained: TrainedData | None = None,
        base: BaseModel | None = None,
        processes: Processes = ONE_PROCESS,
        settings: Settings | None = None,
    ) -> None:
        self.config = config
        self.processes = processes
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.trained = trained
        self.base = base
        if trained is not None and config.get("init_from") is not None:
            self.base = read_kept_base(folder)
        self.settings = settings or check_settings(config)
        self.position = Position()
        self.ancestors: tuple[Ancestry, ...] = ()
        self.device = choose_device(self.settings.trainer.device)
        self.precision, self.autocast = choose_autocast(self.settings.trainer.precision, self.device)

        # Later parts are made for the earlier ones.
        self._read_data()
        self._choose_lengths()
        self._build_schedule()
        self._build_model()
        self._build_optimizer()
        self._build_augmentation()

    def _read_data(self) -> None:
        """Read the records, and fit the task to the training labels."""
        self.task = build_task(self.config)
        self.monitor = f"val/{self.task.monitor}"
        if isinstance(self.task, Pretext):
            check_pretraining(self.task, self.settings, build(self.config.augment))
        if self.task.kind is TaskKind.QUANTITY and self.settings.trainer.aggregate == "max":
            raise UserError("trainer.aggregate=max: the largest of probabilities; of a quantity, expected mean.")
        folds = asdict(self.settings.folds)
        self.data = data_loading.load_data(
            self.config, folds, self.task, self.device, self.settings.seed, self.trained, self.base
        )
        if self.base is not None:
            refuse_other_input(self.base.source, self.base, self.data.store.leads, self.data.store.fs)
        if self.data.targets is not None:
            self.task = self.task.read_by(Readout(self.data.targets.names, self.data.targets.members).to(self.device))
        self.task = self.task.fit(self.data.splits["train"].labels)

    def _choose_lengths(self) -> None:
        """Set window and stride in samples, and the sizes of a batch and an epoch."""
        trainer = self.settings.trainer
        train = self.data.splits["train"]
        fs = self.data.store.fs
        self.window = train.samples if trainer.window is None else round(trainer.window * fs)
        self.stride = max(1, self.window // 2) if trainer.stride is None else max(1, round(trainer.stride * fs))
        if self.window > train.samples:
            raise UserError(
                f"trainer.window={trainer.window}: the records are {train.samples / fs:g} s long; "
                "expected that or less."
            )
        self.batch_size = min(trainer.batch_size or len(train), len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        self.micro_batch = MicroBatch(trainer.micro_batch)
        # One process cannot change the parts of the others.
        records = self.evaluation_size if self.processes.size == 1 else None
        self.evaluation_batch = MicroBatch(records=records, is_training=False, say=say)

    def _build_schedule(self) -> None:
        """Build the schedule, and refuse options that need validation records if there are none."""
        trainer = self.settings.trainer
        self.schedule = build(self.config.schedule)
        needs_val = trainer.patience is not None or trainer.select == "best" or isinstance(self.schedule, Plateau)
        if needs_val and "val" not in self.data.splits:
            raise UserError(
                "trainer.patience, trainer.select=best and schedule=plateau need val metrics; data.folds.val="
                f"{self.settings.folds.val} gives none."
            )

    def _build_model(self) -> None:
        """Build the model, with the weights of the base."""
        trainer = self.settings.trainer
        train = self.data.splits["train"]
        if isinstance(self.task, Pretext):
            outputs = self.task.network_outputs
        elif self.data.targets is not None:
            outputs = len(self.data.targets.names)
        else:
            outputs = train.labels.shape[1]
        frontend = None if self.base is None else self.base.frontend()
        self.moments = self.data.measured.moments
        self.model = build_model(
            self.config,
            train,
            self.moments,
            outputs,
            self.window,
            self.device,
            self.settings.seed,
            frontend,
            self._stored_shapes(),
        )
        if self.task.kind is TaskKind.CLASSES and self.task.starts_at_prior:
            set_output_biases(self.model, self.task.initial_logits(train.labels))
        # Outputs that the base has, too, keep its biases.
        if self.base is not None:
            self.loaded = load_base(self.model, self.base, self.data.output_names)
        if isinstance(self.task, Pretext):
            self._prepare_pretraining(self.task)
        self.finetuning: FineTuning | None = None
        if self.base is not None:
            self.finetuning = FineTuning(self.model, trainer.finetune or "full", trainer.freeze_norms)
            self.finetuning.check_epochs(trainer.epochs)
            if trainer.finetune == "probe":
                # The optimizer gets the weights of the head only.
                self.finetuning.begin_epoch(0)

    def _stored_shapes(self) -> Shapes | None:
        """Return the shapes of the weights that the model will get from a file; None for a model of this run.

        The configuration of a stored model can come from a stranger. These shapes limit the memory that it may take.
        """
        # A run that was stopped before its first checkpoint is trained from its beginning.
        if self.trained is not None and checkpoint.exists(self.checkpoints):
            return checkpoint.load_shapes(self.checkpoints)
        if self.base is not None:
            return {name: tuple(value.shape) for name, value in self.base.state.items()}
        return None

    def _build_optimizer(self) -> None:
        """Build optimizer and penalty for the weights that are trained."""
        self.optimizer: torch.optim.Optimizer = check_learns(build(self.config.optimizer)(self.model))
        layer_decay = self.settings.trainer.layer_decay
        if self.finetuning is not None and layer_decay != 1.0:
            decay_by_layer(self.optimizer, list(self.finetuning.stages.values()), layer_decay)
        self.penalty = build(self.config.penalty)
        self.penalty.check(self.optimizer)

    def _build_augmentation(self) -> None:
        """Build the augmentation, and try it. A pretext task may apply it itself."""
        train = self.data.splits["train"]
        self.augment = build(self.config.augment)
        learned = self.data.labels if self.data.targets is None else self.data.targets.labels
        check_changed_labels(self.augment, learned)
        check_augment(self.augment, self.model, train, self.window, self.settings.seed)
        if isinstance(self.task, Pretext) and self.task.augments_itself:
            self.task = self.task.use_augmentation(self.augment)
            self.augment = Compose({})

    def _prepare_pretraining(self, task: Pretext) -> None:
        """Add the decoder of a pretext task to the model, and fit the window to the network if the task needs that."""
        network_window = getattr(self.model.network, "window", None)
        if task.needs_windows and network_window is not None and self.settings.trainer.window is None:
            self.window = min(network_window * self.model.frontend.stride, self.window)
            self.stride = max(1, self.window // 2)
        # The task of a new run is that of the user, also if the run has a base.
        limits = None if self.trained is None else self._stored_shapes()
        with construction_limits(limits, f"task={task.name}: no decoder can be made"):
            model = task.build_model(self.model, self.window)
        self.model = model.to(self.device)
        if task.pairs_records:
            check_patients(self.data.labels.patients[self.data.rows["train"]])

    def pair(self, split: str) -> Pair | None:
        """Return the function that adds a record of its patient to each record of a split, if the task needs it."""
        if not (isinstance(self.task, Pretext) and self.task.pairs_records):
            return None
        return pair_by_patient(self.data.splits[split], self.data.labels.patients[self.data.rows[split]])

    @property
    def classifier(self) -> Classifier:
        """The model that answers with logits of the classes. It shares all weights with `model`."""
        reader = getattr(self.task, "reader", None)
        model: Classifier = self.model
        if reader is None:
            return model
        classifier = Classifier(model.frontend, model.network, reader)
        classifier.frozen = model.frozen
        return classifier.train(model.training)

    @property
    def ancestry(self) -> Ancestry:
        """The records that the model of this run has seen, its training records included."""
        before = Ancestry() if self.trained is None else self.trained.ancestry
        if self.base is not None and self.base.ancestry is not None:
            before = before.merged(self.base.ancestry)
        return before.merged(training_ancestry(self.data, self.config), *self.ancestors)

    @property
    def evaluation_size(self) -> int:
        """Number of rows that pass through the model at once in an evaluation."""
        return max(MIN_EVALUATION_BATCH, min(self.batch_size, MAX_EVALUATION_BATCH))

    def trainable(self) -> list[torch.Tensor]:
        """Return the parameters that the optimizer moves."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def evaluate(self, split: str, precision: str | None = None, aggregate: str | None = None) -> Predictions:
        """Predict the records of a split. A record that is cut into rows gets one prediction.

        By default, number format and aggregation of windows and rows (``mean`` or ``max``) are those of the training.
        """
        aggregate = aggregate or self.settings.trainer.aggregate
        return self.data.by_record(split, self.predict(split, precision, aggregate), aggregate)

    def predict(self, split: str, precision: str | None = None, aggregate: str | None = None) -> Predictions:
        """Predict the rows of a split. Same parameters as `evaluate`. A pretext task gives scores of each row."""
        autocast = self.autocast if precision is None else choose_autocast(precision, self.device)[1]
        if isinstance(self.task, Pretext):
            # Records that are compared with each other cannot be divided.
            with memory_for("an evaluation", "a smaller trainer.batch_size"):
                return evaluate_pretext(
                    self.model,
                    self.task,
                    evaluation_batches(self.data.splits[split], size=self.evaluation_size),
                    window=self.window,
                    stride=self.stride,
                    autocast=autocast,
                    seed=self.settings.seed,
                    pair=self.pair(split),
                )
        return evaluate(
            self.model,
            self.task,
            evaluation_batches(self.data.splits[split], size=self.evaluation_size),
            window=self.window,
            stride=self.stride,
            aggregate=aggregate or self.settings.trainer.aggregate,
            autocast=autocast,
            micro_batch=self.evaluation_batch,
        )

    def compare_with_teachers(self, split: str, predictions: Predictions) -> dict[str, float]:
        """Return metrics of the predictions of a split that need the teachers of the run; none without teachers."""
        return {}

    def has_several_windows(self, split: str) -> bool:
        """Return whether the model reads a record of a split in more than one window."""
        rows = self.data.splits[split]
        return self.window < rows.samples or len(self.data.patients(split)) < len(rows)

    def load_best_weights(self) -> None:
        """Load the weights of the best epoch, and nothing else."""
        file = self.checkpoints / "best.safetensors"
        state, _ = checkpoint.load(file, self.max_checkpoint_bytes())
        with checkpoint_errors(file):
            self.set_weights(state["model"], file)

    def set_weights(self, weights: Mapping[str, Any], source: Path) -> None:
        """Give the model weights from a checkpoint. Those of another network, or not finite, are refused."""
        with checkpoint_errors(source):
            self.model.load_state_dict(weights)
        for name, value in self.model.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise UserError(f"{source}: {name} has values that are not finite; expected the weights of a run.")

    def read_last(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the state and the notes of the last checkpoint or, with a warning, of the one before it."""
        return read_last(self.checkpoints, self.max_checkpoint_bytes())

    def max_checkpoint_bytes(self) -> int:
        """Return the largest size that a checkpoint of this run may have."""
        return most_state_bytes(sum(value.numel() * value.element_size() for value in self.model.state_dict().values()))
