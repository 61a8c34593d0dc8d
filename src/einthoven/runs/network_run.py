"""A training run of a network: it trains with gradients, and says what it has done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import SGD

from einthoven.contracts import Batch, Position, Predictions, TaskKind
from einthoven.data.record_names import names_in
from einthoven.data.store.batches import mix, training_batches
from einthoven.diagnostics.stages import stages
from einthoven.interrupts import deferred, deliver_waiting, is_waiting
from einthoven.optim.mixture import optimizer_name
from einthoven.optim.plateau import Plateau
from einthoven.runs.network.compiling import training_passes
from einthoven.runs.network.core_watch import CoreWatch
from einthoven.runs.network.network_state import NetworkState
from einthoven.runs.network.pretraining import Pair, pair_batches
from einthoven.runs.network.step_cost import finish_profile, meter_of, profile_of
from einthoven.runs.results.advice_facts import decay_per_rate
from einthoven.runs.results.conclude import conclude
from einthoven.runs.unrecorded import Unrecorded
from einthoven.terminal.display import TrainingDisplay
from einthoven.tracking.recorder import Recorder
from einthoven.tracking.series import Point
from einthoven.training.callbacks import Callbacks
from einthoven.training.checks import TrainingChecks
from einthoven.training.clock import Clock
from einthoven.training.loop import fit
from einthoven.training.meter import StepMeter
from einthoven.training.step import train_step

_LOSS = "train/loss"
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_STOPPING = "The training stops at the next checkpoint. Press Ctrl-C again to stop at once."
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def _show_losses(display: TrainingDisplay, points: Sequence[Point]) -> None:
    """Give the losses among the points of a recorder to the display."""
    display.add_losses((point.step, point.value) for point in points if point.metric == _LOSS)


class NetworkRun(NetworkState):
    """One training run of a network. It implements the protocol `Run`.

    Parameters
    ----------
    config, folder, trained, base, processes, settings
        As in `NetworkParts`.
    """

    other_options = ("optimizer", "sgd", "adamw,sgd")

    def headline(self) -> str:
        """Return the network, the number of its parameters and the optimizer."""
        network = type(self.model.network).__name__
        return f"Training {network} ({self.model_description}) with {optimizer_name(self.optimizer)}"

    @contextmanager
    def training(self, recorder: Recorder | Unrecorded) -> Iterator[Callable[[], Position]]:
        """Show the progress, and yield `fit` with all its arguments bound. It trains from the current position.

        Several processes wait for each other first, and begin with the weights of the first one.
        """
        trainer = self.settings.trainer
        seed = self.settings.seed

        # From here on, all processes do the same, but only the first one writes.
        processes = self.processes
        processes.meet(self.folder.absolute())
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

        display = self._display(recorder)
        core_watch = None
        if isinstance(recorder, Recorder) and self.device.type == "cpu":
            core_watch = CoreWatch(recorder)
        watching = core_watch or nullcontext()
        callbacks = self._callbacks(recorder, display, core_watch)
        checks = TrainingChecks(self.model, self.position, self._record_names)
        profile = profile_of(self, self.total_steps - self.position.step)
        profiling = nullcontext() if profile is None else profile.running()
        with display, self.diagnose.attach_hooks(), profiling, watching, deferred(_STOPPING):
            yield partial(
                fit,
                self.model,
                self.optimizer,
                step,
                partial(self._training_batches, self.pair("train"), meter),
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

    def _training_batches(self, pair: Pair | None, meter: StepMeter, epoch: int, first: int) -> Iterator[Batch]:
        """Begin an epoch, and return its batches from the number `first` on. `meter` measures the time they take."""
        if self.finetuning is not None:
            self.finetuning.begin_epoch(epoch)
        records = training_batches(
            self.data.splits["train"],
            size=self.batch_size,
            window=self.window,
            seed=self.settings.seed,
            epoch=epoch,
            sampler=self.settings.trainer.sampler,
            first=first,
        )
        if pair is not None:
            records = pair_batches(records, pair, self.settings.seed, epoch, first)
        return meter.timed(records)

    def _display(self, recorder: Recorder | Unrecorded) -> TrainingDisplay:
        """Return the display, which gets the losses from the recorder."""
        monitored = (self.monitor, self.task.metric_titles[self.task.monitor])
        epochs = self.settings.trainer.epochs
        display = TrainingDisplay(epochs, self.steps_per_epoch, self.batch_size, recorder.latest, monitored)

        # The recorder moves the losses of many steps to the host at once. A resumed run knows those before its start.
        steps, losses = recorder.history.get(_LOSS, ([], []))
        display.add_losses(pair for pair in zip(steps, losses, strict=True) if pair[0] <= self.position.step)
        recorder.observe = partial(_show_losses, display)
        return display

    def _callbacks(
        self, recorder: Recorder | Unrecorded, display: TrainingDisplay, core_watch: CoreWatch | None
    ) -> Callbacks:
        """Return what the loop calls after a step and after an epoch."""
        clock = Clock(self.settings.trainer.checkpoint_minutes)
        processes = self.processes

        def show_progress(position: Position) -> None:
            # Device-to-host sync: once per second, and only if a terminal shows the loss.
            if display.wants_losses():
                recorder.flush()
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

        return Callbacks(
            log_metrics=recorder.log_metrics,
            evaluate=self._validate,
            save=save,
            show_progress=show_progress,
            is_save_due=lambda: processes.any(is_waiting() or clock.is_due()),
            save_step=save_step,
        )

    def use_reported_weights(self) -> None:
        """Give the model the weights that the run reports: the averaged ones, if there is an average."""
        if self.average is not None:
            self.average.apply()

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

    def conclude(self, recorder: Recorder, *, is_fold: bool = False) -> tuple[dict[str, float], dict[str, Predictions]]:
        """Evaluate the selected weights, and log what belongs on the run page."""
        return conclude(self, recorder, self.validation, is_fold=is_fold)

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
            f"{type(self.model.network).__name__} ({self.model_description}), {optimizer_name(self.optimizer)}, "
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
            "weight_decay": decay_per_rate(self.optimizer),
            "plain_loss": self._loss_is_likelihood(),
            "pretrained": self.base is not None,
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
