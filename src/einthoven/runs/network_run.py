"""A training run of a network: it trains with gradients, saves checkpoints and can be resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD

import einthoven
from einthoven.build import build
from einthoven.contracts import ONE_PROCESS, Batch, Position, Predictions, Processes, TaskKind
from einthoven.data.record_names import names_in
from einthoven.data.store.batches import mix, training_batches
from einthoven.diagnostics.stages import stages
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.interrupts import deferred, deliver_waiting, is_waiting
from einthoven.optim.plateau import Plateau
from einthoven.runs.averaging import average_of
from einthoven.runs.base_model import BaseModel
from einthoven.runs.build_model import network_options
from einthoven.runs.checkpoint_checks import checkpoint_errors
from einthoven.runs.compiling import training_passes
from einthoven.runs.conclude import conclude
from einthoven.runs.core_watch import CoreWatch
from einthoven.runs.finetuning import start_of
from einthoven.runs.network_parts import NetworkParts
from einthoven.runs.options import logged_options, plain_options
from einthoven.runs.pretraining import pair_batches
from einthoven.runs.settings import Settings
from einthoven.runs.shared_checks import refuse_unshared
from einthoven.runs.step_cost import finish_profile, meter_of, profile_of, refuse_long_profile
from einthoven.runs.teaching import Teaching
from einthoven.runs.trained_data import TrainedData
from einthoven.runs.unrecorded import Unrecorded
from einthoven.runs.validation import Validation
from einthoven.tasks.distillation import Distillation
from einthoven.tasks.pretext import Pretext
from einthoven.terminal.display import TrainingDisplay, say
from einthoven.tracking.recorder import Recorder
from einthoven.training import checkpoint
from einthoven.training.accumulation import check_takes_one_record, count_parts
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.clock import Clock
from einthoven.training.loop import fit
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step

if TYPE_CHECKING:
    from omegaconf import DictConfig

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_STOPPING = "stopping at the next checkpoint; once more stops at once"
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


class NetworkRun(NetworkParts):
    """One training run of a network. It implements the protocol `Run`.

    Parameters
    ----------
    config, folder, trained, base, processes, settings
        As in `NetworkParts`.
    """

    other_options = ("optimizer", "sgd", "adamw,sgd")

    def __init__(
        self,
        config: DictConfig,
        folder: Path,
        trained: TrainedData | None = None,
        base: BaseModel | None = None,
        processes: Processes = ONE_PROCESS,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(config, folder, trained, base, processes, settings)
        self.teaching: Teaching | None = None
        if isinstance(self.task, Distillation):
            self.teaching = Teaching(self)
            self.data = self.teaching.with_answers(self.data)
            self.task = self.task.taught_by(self.teaching.ensemble, len(self.teaching.feature_models))
            self.ancestors = self.teaching.ancestors
        if self.base is not None and self.penalty.needs_base:
            start = start_of(self.base, self.loaded, self.model, self.task.output, self._make_network)
            self.penalty = self.penalty.bind(start)
        trainer = self.settings.trainer
        self.total_steps = trainer.epochs * self.steps_per_epoch
        if trained is None:
            refuse_long_profile(trainer.profile, self.total_steps)
        parameter_count = sum(p.numel() for p in self.model.parameters())
        self.model_sizes = {"model.parameters": parameter_count}
        self.model_description = f"{parameter_count:,} parameters"

        # A batch may pass through the model in parts. The gradient noise is measured between two parts or more.
        parts = count_parts(self.batch_size, trainer.micro_batch)
        noise_parts = max(2, parts)
        noise_scale = self.settings.diagnostics.noise_scale
        if noise_scale is not None and self.batch_size // noise_parts < 2:
            raise UserError(
                f"diagnostics.noise_scale={noise_scale} compares {noise_parts} parts of a batch: expected 2 records or "
                f"more in each, found a batch of {self.batch_size}; or null."
            )
        smallest_part = self.batch_size // parts
        if processes.size > 1:
            noise_records = None if noise_scale is None else self.batch_size // noise_parts
            refuse_unshared(self.task, smallest_part, noise_records, processes.size)
        if smallest_part == 1:
            first_row = torch.zeros(1, dtype=torch.long, device=self.device)
            check_takes_one_record(self.model, self.data.splits["train"].take(first_row, self.window))

        self.diagnose = StepDiagnostics(
            self.model,
            self.task,
            self.optimizer,
            self.settings.diagnostics,
            autocast=self.autocast,
            parts=noise_parts,
            processes=processes,
            rows=len(self.data.splits["train"]),
        )
        self.micro_batch = self._make_micro_batch()
        self.average = average_of(self, self.diagnose)
        self.validation = Validation(self)
        # Every checkpoint repeats the options.
        self._logged_options = logged_options(plain_options(config))

    def _make_micro_batch(self) -> MicroBatch:
        """Return the number of records at once, which is halved if memory runs out and the run allows it."""
        has_batch_norm = any(isinstance(module, _BatchNorm) for module in self.model.modules())
        needs_two = has_batch_norm or self.settings.diagnostics.noise_scale is not None
        compares_records = isinstance(self.task, Pretext) and self.task.compares_records
        # One process cannot change the parts of the others.
        may_halve = self.processes.size == 1 and not compares_records

        def say_and_measure(sentence: str) -> None:
            say(sentence)
            self._follow_micro_batch()

        return MicroBatch(
            self.settings.trainer.micro_batch,
            records=self.batch_size if may_halve else None,
            smallest=2 if needs_two else 1,
            say=say_and_measure,
        )

    def _follow_micro_batch(self) -> None:
        """Measure the gradient noise between parts that are no larger than the micro-batches."""
        self.diagnose.use_parts(max(2, count_parts(self.batch_size, self.micro_batch.size)))

    @contextmanager
    def training(self, recorder: Recorder | Unrecorded) -> Iterator[Callable[[], Position]]:
        """Show the progress, and yield `fit` with all its arguments bound. It trains from the current position.

        Several processes wait for each other first, and begin with the weights of the first one.
        """
        trainer = self.settings.trainer
        seed = self.settings.seed

        # From here on, all processes do the same, but only the first one writes.
        processes = self.processes
        processes.meet(self.folder)
        processes.copy_first(list(self.model.state_dict().values()))

        # It takes a pass of the model as it is written, before the model is compiled.
        meter = meter_of(self)

        # The loop knows a step as a function of the batch, and the batches as a function of the epoch.
        step = partial(
            train_step,
            self.model,
            self.penalty.wrap(self.task),
            optimizer=self.optimizer,
            augment=self.augment,
            autocast=training_passes(self),
            clip_norm=trainer.clip_norm or math.inf,
            penalty=self.penalty,
            diagnose=self.diagnose,
            micro_batch=self.micro_batch,
            processes=processes,
        )

        pair = self.pair("train")

        def batches(epoch: int, first: int) -> Iterator[Batch]:
            if self.finetuning is not None:
                self.finetuning.begin_epoch(epoch)
            records = training_batches(
                self.data.splits["train"],
                size=self.batch_size,
                window=self.window,
                seed=seed,
                epoch=epoch,
                sampler=trainer.sampler,
                first=first,
            )
            if pair is not None:
                records = pair_batches(records, pair, seed, epoch, first)
            return meter.timed(records)

        # What the loop calls after a step and after an epoch.
        monitored = (self.monitor, self.task.metric_titles[self.task.monitor])
        display = TrainingDisplay(trainer.epochs, self.steps_per_epoch, self.batch_size, recorder.latest, monitored)

        clock = Clock(trainer.checkpoint_minutes)
        core_watch = None
        if isinstance(recorder, Recorder) and self.device.type == "cpu":
            core_watch = CoreWatch(recorder)
        watching = core_watch or nullcontext()

        def show_progress(position: Position) -> None:
            display.step(position)
            if core_watch is not None:
                core_watch.step()

        def save(position: Position, is_best: bool) -> None:
            recorder.flush()
            display.epoch(position)
            # The best checkpoint first: a run that is resumed from the last one can then rely on it.
            if is_best:
                self.save("best", recorder)
            save_last()

        def save_step(position: Position) -> None:
            recorder.flush()
            save_last()

        def save_last() -> None:
            self.save("last", recorder)
            clock.restart()
            # Ctrl-C ends the training here: nothing is lost. All processes end together.
            if processes.any(is_waiting()):
                deliver_waiting()
                # The signal has not reached this process yet.
                raise KeyboardInterrupt

        callbacks = Callbacks(
            log_metrics=recorder.log_metrics,
            evaluate=self._validate,
            save=save,
            show_progress=show_progress,
            is_save_due=lambda: processes.any(is_waiting() or clock.is_due()),
            save_step=save_step,
        )

        checks = TrainingChecks(self.model, self.position, self._record_names)
        profile = profile_of(self, self.total_steps - self.position.step)
        profiling = nullcontext() if profile is None else profile.running()
        with display, self.diagnose.attach_hooks(), profiling, watching, deferred(_STOPPING):
            yield partial(
                fit,
                self.model,
                self.optimizer,
                step,
                batches,
                self.schedule,
                callbacks,
                checks,
                listeners=[listener for listener in (meter, self.average, profile) if listener is not None],
                position=self.position,
                epochs=trainer.epochs,
                steps_per_epoch=self.steps_per_epoch,
                step_seed=partial(mix, seed),
                monitor=self.monitor,
                patience=trainer.patience,
            )
        finish_profile(self, recorder)
        self.use_reported_weights()

    def use_reported_weights(self) -> None:
        """Give the model the weights that the run reports: the averaged ones, if there is an average."""
        if self.average is not None:
            self.average.apply()

    def _make_network(self, outputs: int) -> nn.Module:
        """Return a new network of the architecture of the run. The state of the random numbers does not change."""
        options = network_options(self.config, self.model.frontend, outputs, self.window)
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = build(self.config.model).func(**options)
        return network

    def _validate(self) -> dict[str, float]:
        """Return the metrics at the end of an epoch."""
        if self.average is None or not self.average.count:
            metrics = self.processes.agree(self.validation())
        else:
            raw_metrics = self.validation.measure_raw_weights()
            with self.average.applied():
                metrics = self.processes.agree(self.validation() | raw_metrics)
        # R² is not defined if all targets are equal.
        if isinstance(self.schedule, Plateau) and self.monitor in metrics:
            self.schedule.observe(metrics[self.monitor])
        # Device-to-host sync: once per epoch.
        metrics |= {name: float(value) for name, value in self.penalty.metrics(self.model).items()}
        return metrics

    def conclude(self, recorder: Recorder) -> tuple[dict[str, float], dict[str, Predictions]]:
        """Evaluate the selected weights, and log what belongs on the run page."""
        return conclude(self, recorder, self.validation)

    def compare_with_teachers(self, split: str, predictions: Predictions) -> dict[str, float]:
        """Return the divergence from the teachers and the agreement with them; none without teachers."""
        if self.teaching is None:
            return {}
        return {f"{split}/{name}": value for name, value in self.teaching.metrics(split, predictions).items()}

    def refuse_seen(self, names: Mapping[str, str]) -> None:
        """Refuse a base or a teacher that was trained on records of some splits. See `Data.refuse_seen`."""
        if self.base is not None and self.base.ancestry is not None:
            self.data.refuse_seen(names, self.base.ancestry, self.base.source)
        if self.teaching is not None:
            self.teaching.refuse_seen(names)

    def _record_names(self, index: torch.Tensor) -> list[str]:
        """Return the names of some training records, for error messages."""
        rows = self.data.rows["train"][index.cpu().numpy()]
        return list(map(names_in(self.data.store.table, "ecg_id"), self.data.labels.ecg_ids[rows].tolist()))

    def save(self, name: str, recorder: Recorder | Unrecorded) -> None:
        """Write a checkpoint with everything that a resumed run needs. Only the first process writes.

        The weights of a checkpoint are those that the run would report: the averaged ones, if there is an average.
        """
        if self.average is None:
            self._write_checkpoint(name, recorder, None)
            return
        average_state = self.average.state_dict()
        # All processes compute the statistics of the averaged weights together.
        with self.average.applied():
            self._write_checkpoint(name, recorder, average_state)

    def _write_checkpoint(
        self, name: str, recorder: Recorder | Unrecorded, average_state: Mapping[str, Any] | None
    ) -> None:
        """Write a checkpoint with the weights that the model has now."""
        if self.processes.rank > 0:
            return
        state = {
            "model": self.model.state_dict(),
            "average": average_state,
            # It is smaller than that of the configuration if memory ran out.
            "micro_batch": self.micro_batch.size,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if isinstance(self.schedule, Plateau) else None,
            "diagnostics": self.diagnose.state_dict(),
            "validation": self.validation.state_dict(),
            # Each step has its own seed. This is for code that draws random numbers between the steps.
            "rng": torch.get_rng_state(),
        }
        store = self.data.store
        notes = {
            "position": asdict(self.position),
            "seed": self.settings.seed,
            "run_id": recorder.run_id,
            "recorder": recorder.position,
            "classes": list(self.data.labels.classes),
            "outputs": list(self.data.output_names),
            "task": self.task.fitted,
            "leads": list(store.leads),
            "fs": store.fs,
            "samples": self.data.splits["train"].samples,
            "pads": None if store.origin is None else store.origin.pads,
            "data": store.fingerprint,
            "config": self._logged_options,
            "einthoven": einthoven.__version__,
        }
        previous = self.checkpoints / checkpoint.PREVIOUS if name == "last" else None
        checkpoint.save(self.checkpoints / f"{name}.safetensors", state, notes, previous=previous)

    def load(self) -> dict[str, Any]:
        """Continue from the last checkpoint of this run, and return its notes."""
        state, notes = self.read_last()
        with checkpoint_errors(self.checkpoints):
            self.set_weights(state["model"], self.checkpoints)
            if self.average is not None:
                self.average.load_state_dict(state["average"])
                if self.average.count:
                    self.set_weights(state["average"]["raw"], self.checkpoints)
            size = state.get("micro_batch", self.micro_batch.size)
            if size is not None and (type(size) is not int or size < 1):
                raise ValueError(f"micro_batch is {size!r}")
            self.micro_batch.size = size
            self._follow_micro_batch()
            self.optimizer.load_state_dict(state["optimizer"])
            self.diagnose.load_state_dict(state["diagnostics"])
            if isinstance(self.schedule, Plateau):
                self.schedule.load_state_dict(state["schedule"])
            self.validation.load_state_dict(state["validation"])
            torch.set_rng_state(state["rng"])
            self.position = Position(**notes["position"])
        # The run reports the best weights at its end. Without them it would train in vain.
        if self.settings.trainer.select == "best" and self.position.best_epoch:
            checkpoint.check(self.checkpoints / "best.safetensors")
        return notes

    def describe_training(self) -> str:
        """Return a sentence about network, optimizer, epochs and batches."""
        trainer = self.settings.trainer
        selected = f", weights of epoch {self.position.best_epoch}" if trainer.select == "best" else ""
        if trainer.ema is not None:
            selected += f", an exponential average (EMA) of the weights with the decay {trainer.ema:g}"
        if trainer.swa is not None:
            selected += f", the average (SWA) of the weights of the last {trainer.swa} epochs"
        taught = "" if self.teaching is None else f" Distilled from {self.teaching.description}."
        started = ""
        if self.base is not None:
            mode = trainer.finetune or "full"
            started = f" Started from {self.base.logged_source}, {self.base.description} (fine-tuning: {mode})."
        return (
            f"{type(self.model.network).__name__} ({self.model_description}), {type(self.optimizer).__name__}, "
            f"{self.position.epoch} of {trainer.epochs} epochs of {self.steps_per_epoch} steps{selected}; batches of "
            f"{self.batch_size} on {self.device} in {self.precision}; seed {self.settings.seed}.{taught}{started}"
        )

    def training_facts(self) -> dict[str, Any]:
        """Return facts about the network and its training that no metric shows."""
        trainer = self.settings.trainer
        network = self.model.network
        return {
            "stages": list(stages(network)),
            "normalised": any(isinstance(module, _NORMS) for module in network.modules()),
            "layers": sum(isinstance(module, _LAYERS) for module in network.modules()),
            "epochs": trainer.epochs,
            "steps_per_epoch": self.steps_per_epoch,
            "clip_norm": trainer.clip_norm,
            "plain_loss": self._loss_is_likelihood(),
            "proportional": isinstance(self.optimizer, SGD),
        }

    def _loss_is_likelihood(self) -> bool:
        """Return whether the training loss is the negative log-likelihood, so that chance has a known loss."""
        has_targets = self.data.targets is not None
        if self.task.kind is not TaskKind.CLASSES or self.teaching is not None or has_targets:
            return False
        # Compare both on a few labels and probabilities.
        count = len(self.data.labels.classes)
        y = np.eye(max(2, count))[:, :count]
        p = np.full_like(y, 1 / count if self.task.single_label else 0.3)
        return bool(np.isclose(self.task.training_loss(y, p), self.task.negative_log_likelihood(y, p)))
