"""A training run: its parts, assembled once; training, evaluating, saving and continuing it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import einthoven
from einthoven.build import build
from einthoven.contracts import Position, Predictions
from einthoven.data.ancestry import Ancestry
from einthoven.data.store.batches import evaluation_batches, mix, training_batches
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.optim.groups import check_learns, most_state_bytes
from einthoven.optim.plateau import Plateau
from einthoven.runs import assemble
from einthoven.runs.validation import Validation
from einthoven.terminal.display import TrainingDisplay, warn
from einthoven.training import checkpoint
from einthoven.training.accumulation import check_takes_one_record, count_parts, smallest_part
from einthoven.training.loop import Callbacks, evaluate, fit, train_step
from einthoven.training.precision import choose_autocast, choose_device

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from einthoven.functional.pca import LeadMoments
    from einthoven.runs.trained_data import TrainedData
    from einthoven.tracking.recorder import Recorder

EVALUATION_BATCH = 256  # at most, so that full-batch training does not ask for full-batch evaluation


class Run:
    """One training run: its parts, assembled once, and what is done with them.

    Parameters
    ----------
    config : DictConfig
        As composed from ``conf/train.yaml``.
    folder : Path
        Where checkpoints are kept.
    trained : TrainedData, optional
        What the run was trained on before: its records have to be the same now.
    """

    def __init__(self, config: DictConfig, folder: Path, trained: TrainedData | None = None) -> None:
        self.config, self.folder = config, folder
        self.trained = trained
        self.settings = assemble.settings(config)
        trainer, seed = self.settings.trainer, self.settings.seed
        self.device = choose_device(trainer.device)
        self.precision, self.autocast = choose_autocast(trainer.precision, self.device)
        self.task = assemble.build_task(config)
        if self.task.output == "identity" and trainer.aggregate == "max":
            raise UserError("trainer.aggregate=max: the largest of probabilities; of a quantity, expected mean.")
        folds = asdict(self.settings.folds)
        self.data = assemble.load_data(config, folds, self.task, self.device, seed, trained)
        self.task = self.task.fit(self.data.splits["train"].labels)
        train, fs = self.data.splits["train"], self.data.store.fs
        self.window = train.samples if trainer.window is None else round(trainer.window * fs)
        self.stride = max(1, self.window // 2) if trainer.stride is None else max(1, round(trainer.stride * fs))
        if self.window > train.samples:
            raise UserError(
                f"trainer.window={trainer.window}: the records are {train.samples / fs:g} s long; "
                "expected that or less."
            )
        self.schedule = build(config.schedule)
        selects = trainer.patience is not None or trainer.select == "best" or isinstance(self.schedule, Plateau)
        if "val" not in self.data.splits and selects:
            raise UserError(
                "trainer.patience, trainer.select=best and schedule=plateau need val metrics; data.folds.val="
                f"{self.settings.folds.val} gives none."
            )
        self.moments: LeadMoments
        self.model, self.moments = assemble.build_model(
            config, train, train.labels.shape[1], self.window, self.device, seed
        )
        self.optimizer: torch.optim.Optimizer = check_learns(build(config.optimizer)(self.model))
        self.penalty = build(config.penalty)
        self.penalty.check(self.optimizer)
        self.augment = build(config.augment)
        assemble.check_changes(self.augment, self.data.labels)
        assemble.check_augment(self.augment, self.model, train, self.window, seed)
        self.batch_size = min(trainer.batch_size or len(train), len(train))
        self.steps_per_epoch = len(train) // self.batch_size
        parts, noise_scale = (
            max(2, count_parts(self.batch_size, trainer.micro_batch)),
            self.settings.diagnostics.noise_scale,
        )
        if noise_scale is not None and self.batch_size // parts < 2:
            raise UserError(
                f"diagnostics.noise_scale={noise_scale} compares {parts} parts of a batch: expected 2 records or more "
                f"in each, found a batch of {self.batch_size}; or null."
            )
        self.diagnose = StepDiagnostics(
            self.model, self.task, self.optimizer, self.settings.diagnostics, autocast=self.autocast, parts=parts
        )
        if smallest_part(self.batch_size, trainer.micro_batch) == 1:
            check_takes_one_record(
                self.model, train.take(torch.zeros(1, dtype=torch.long, device=self.device), self.window)
            )
        self.position = Position()
        self.validation = Validation(self)

    @property
    def monitor(self) -> str:
        """The metric that early stopping, the choice of weights and a plateau go by; more is better."""
        return f"val/{self.task.monitor}"

    @property
    def ancestry(self) -> Ancestry:
        """What the model of this run has seen, its own training records among it."""
        before = Ancestry() if self.trained is None else self.trained.ancestry
        return before.joined(Ancestry.of(self.data.digests("train")))

    def train(self, recorder: Recorder) -> None:
        """Train to the last epoch, from wherever this run stands."""
        trainer, seed, split = self.settings.trainer, self.settings.seed, self.data.splits["train"]
        with (
            TrainingDisplay(
                trainer.epochs,
                self.steps_per_epoch,
                self.batch_size,
                recorder.latest,
                (self.monitor, self.task.shown[self.task.monitor]),
            ) as display,
            self.diagnose.attach_hooks(),
        ):

            def save(position: Position, best: bool) -> None:
                recorder.flush()
                display.epoch(position)
                if best:
                    self.save("best", recorder)
                self.save("last", recorder)  # after the best: a resumed run may then trust that file

            fit(
                self.model,
                self.optimizer,
                partial(
                    train_step,
                    self.model,
                    self.task,
                    optimizer=self.optimizer,
                    augment=self.augment,
                    autocast=self.autocast,
                    clip_norm=trainer.clip_norm or math.inf,
                    penalty=self.penalty,
                    diagnose=self.diagnose,
                    micro_batch=trainer.micro_batch,
                ),
                lambda epoch: training_batches(
                    split,
                    size=self.batch_size,
                    window=self.window,
                    seed=seed,
                    epoch=epoch,
                    sampler=trainer.sampler,
                ),
                self.schedule,
                Callbacks(recorder.log_metrics, self.validate, save, display.step, self._ecg_ids),
                position=self.position,
                epochs=trainer.epochs,
                steps_per_epoch=self.steps_per_epoch,
                step_seed=partial(mix, seed),
                monitor=self.monitor,
                patience=trainer.patience,
            )

    def evaluate(self, split: str, precision: str | None = None, aggregate: str | None = None) -> Predictions:
        """Goals and predictions of the records of a split: those of a long one from all of its windows."""
        aggregate = aggregate or self.settings.trainer.aggregate
        return self.data.by_record(split, self.predict(split, precision, aggregate), aggregate)

    def several_windows(self, split: str) -> bool:
        """Whether the model sees a record of a split in more than one piece."""
        rows = self.data.splits[split]
        return self.window < rows.samples or len(self.data.patients(split)) < len(rows)

    def predict(self, split: str, precision: str | None = None, aggregate: str | None = None) -> Predictions:
        """Goals and predictions of the rows of a split, in precision and aggregation of the training by default."""
        autocast = self.autocast if precision is None else choose_autocast(precision, self.device)[1]
        return evaluate(
            self.model,
            self.task,
            evaluation_batches(self.data.splits[split], size=max(32, min(self.batch_size, EVALUATION_BATCH))),
            window=self.window,
            stride=self.stride,
            aggregate=aggregate or self.settings.trainer.aggregate,
            autocast=autocast,
        )

    def validate(self) -> dict[str, float]:
        """Metrics at the end of an epoch."""
        metrics = self.validation()
        if isinstance(self.schedule, Plateau) and self.monitor in metrics:  # R² is not defined of equal targets
            self.schedule.observe(metrics[self.monitor])
        # Device-to-host sync: once per epoch.
        metrics |= {name: float(value) for name, value in self.penalty.metrics(self.model).items()}
        return metrics

    def _ecg_ids(self, index: torch.Tensor) -> list[int]:
        """Names of some training records, for sentences."""
        rows = self.data.rows["train"][index.cpu().numpy()]
        ids: list[int] = self.data.labels.ecg_ids[rows].tolist()
        return ids

    def trainable(self) -> list[torch.Tensor]:
        """Parameters that the optimizer moves."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def write_config(self) -> None:
        """Write the resolved configuration, from which the run can be resumed."""
        assemble.write_config(self.config, self.folder)

    def save(self, name: str, recorder: Recorder) -> None:
        """Write everything that a resumed run needs."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if isinstance(self.schedule, Plateau) else None,
            "diagnostics": self.diagnose.state_dict(),
            "validation": self.validation.state_dict(),
            "rng": torch.get_rng_state(),  # for what may draw between steps; the steps themselves are seeded anew
        }
        meta = {
            "position": asdict(self.position),
            "seed": self.settings.seed,
            "run_id": recorder.run_id,
            "recorder": recorder.position,
            "classes": list(self.data.labels.classes),
            "task": self.task.fitted,
            "leads": list(self.data.store.leads),
            "fs": self.data.store.fs,
            "data": self.data.store.fingerprint,
            "config": assemble.shown(assemble.plain(self.config)),
            "einthoven": einthoven.__version__,
        }
        previous = self.checkpoints / checkpoint.PREVIOUS if name == "last" else None
        checkpoint.save(self.checkpoints / f"{name}.safetensors", state, meta, previous=previous)

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.folder / "checkpoints"

    def load_weights(self, name: str) -> None:
        """Take the weights, and nothing else, of a checkpoint of this run."""
        file = self.checkpoints / f"{name}.safetensors"
        state, _ = checkpoint.load(file, self._most_bytes())
        self.take_weights(state, file)

    def take_weights(self, state: Mapping[str, Any], source: Path) -> None:
        """Take the weights of a state that was read from a checkpoint.

        Raises
        ------
        UserError
            If they are the weights of another network, or some are not finite.
        """
        with _of_this_run(source):
            self.model.load_state_dict(state["model"])
        for name, value in self.model.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise UserError(f"{source}: {name} has values that are not finite; expected the weights of a run.")

    def load_last(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """State and notes of the last checkpoint or, with a warning, of the one before it."""
        state, meta, note = checkpoint.load_last(self.checkpoints, self._most_bytes())
        with _of_this_run(self.checkpoints):
            _check_notes(meta)
        if note:
            warn(note)
        return state, meta

    def load(self) -> dict[str, Any]:
        """Continue from the last checkpoint of this run; returns its notes."""
        state, meta = self.load_last()
        with _of_this_run(self.checkpoints):
            self.take_weights(state, self.checkpoints)
            self.optimizer.load_state_dict(state["optimizer"])
            self.diagnose.load_state_dict(state["diagnostics"])
            if isinstance(self.schedule, Plateau):
                self.schedule.load_state_dict(state["schedule"])
            self.validation.load_state_dict(state["validation"])
            torch.set_rng_state(state["rng"])
            self.position = Position(**meta["position"])
        # The run reports these weights at its end. Without them it would train in vain.
        if self.settings.trainer.select == "best" and self.position.best_epoch:
            checkpoint.check(self.checkpoints / "best.safetensors")
        return meta

    def _most_bytes(self) -> int:
        """Bytes that a checkpoint may have."""
        return most_state_bytes(sum(value.numel() * value.element_size() for value in self.model.state_dict().values()))


def _check_notes(meta: Mapping[str, Any]) -> None:
    """Refuse notes that no run has written: what is done with them relies on their types.

    Raises
    ------
    KeyError, TypeError, ValueError
        Names what is missing or wrong.
    """
    position = Position(**meta["position"])
    counts = {"epoch": position.epoch, "step": position.step, "best_epoch": position.best_epoch}
    counts["skipped"] = position.skipped
    counts["recorder"] = meta["recorder"]
    for name, value in counts.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} is {value!r}")
    texts = [meta["run_id"], meta["data"], *meta["classes"]]
    if not (all(isinstance(text, str) for text in texts) and isinstance(meta["classes"], list)):
        raise TypeError("run_id, data and classes are not texts")
    if type(position.best) not in (int, float) or type(position.stopped) is not bool:
        raise TypeError(f"best is {position.best!r}, stopped is {position.stopped!r}")


@contextmanager
def _of_this_run(source: Path) -> Iterator[None]:
    """Say in one sentence that a checkpoint has another content than this run would write."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source}: not a checkpoint of this run ({type(error).__name__}: {reason}); expected one that a run with "
            "this config.yaml has written."
        ) from error
