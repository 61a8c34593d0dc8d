"""A network run with all that changes while it trains, which its checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import einthoven
from einthoven.build import build
from einthoven.contracts import ONE_PROCESS, Position, Processes
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.optim.plateau import Plateau
from einthoven.runs.base.finetuning import start_of
from einthoven.runs.config.options import logged_options, plain_options
from einthoven.runs.config.settings import Settings
from einthoven.runs.folder.base_model import BaseModel
from einthoven.runs.folder.checkpoint_checks import checkpoint_errors
from einthoven.runs.folder.trained_data import TrainedData
from einthoven.runs.network.averaging import average_of
from einthoven.runs.network.build_model import network_options
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.step_cost import refuse_long_profile
from einthoven.runs.network.teaching import Teaching
from einthoven.runs.network.validation import Validation
from einthoven.runs.unrecorded import Unrecorded
from einthoven.tasks.distillation import Distillation
from einthoven.tasks.pretext import Pretext
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder
from einthoven.training import checkpoint
from einthoven.training.accumulation import check_takes_one_record, count_parts
from einthoven.training.memory import MicroBatch

if TYPE_CHECKING:
    from omegaconf import DictConfig


class NetworkState(NetworkParts):
    """The parts of a network run, and all that changes while it trains. It is saved in checkpoints, and loaded.

    Parameters
    ----------
    config, folder, trained, base, processes, settings
        As in `NetworkParts`.

    Attributes
    ----------
    teaching : Teaching or None
        The models that the network learns from.
    total_steps : int
        Optimizer steps of the whole training.
    average : WeightAverage or None
        The average of the weights, if the run reports one.
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

    def _make_network(self, outputs: int) -> nn.Module:
        """Return a new network of the architecture of the run. The state of the random numbers does not change."""
        options = network_options(self.config, self.model.frontend, outputs, self.window)
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = build(self.config.model).func(**options)
        return network

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


def refuse_unshared(task: Any, records: int, noise_records: int | None, processes: int) -> None:
    """Refuse a task or a size of batches that several processes cannot share.

    `records` are those of the smallest forward pass of the training, of all processes together, and `noise_records`
    those of a forward pass of the gradient noise scale, if it is measured.
    """
    if isinstance(task, Pretext) and not task.calls_whole_model:
        raise UserError(
            f"task={task.name}: its loss calls parts of the model, and {processes} processes share only calls of the "
            "whole model; expected another task, or one process."
        )
    if records < processes:
        raise UserError(
            f"trainer.batch_size, trainer.micro_batch: a forward pass has {records} record{'s' * (records > 1)} for "
            f"{processes} processes together; expected {processes} or more."
        )
    if noise_records is not None and noise_records < processes:
        raise UserError(
            f"diagnostics.noise_scale: compares parts of a batch with {noise_records} records for {processes} "
            f"processes together; expected {processes} or more, or diagnostics.noise_scale=null."
        )
