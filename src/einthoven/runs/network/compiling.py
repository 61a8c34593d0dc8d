"""The forward passes of the training steps of a run, compiled if its options ask for it."""

from __future__ import annotations

import time

import torch

from einthoven.contracts import Autocast, Batch
from einthoven.errors import UserError
from einthoven.runs.network.averaging import training_parts
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.tasks.pretext import Pretext
from einthoven.terminal.display import say
from einthoven.training.compiled import CompiledPasses
from einthoven.training.guard import Guard


def refuse_without_compiler(device: torch.device) -> None:
    """Refuse trainer.compile=true where not even a small function can be compiled. This takes some seconds."""

    def negative(x: torch.Tensor) -> torch.Tensor:
        return -x

    try:
        torch.compile(negative, dynamic=False)(torch.zeros(2, device=device))
    except (RuntimeError, AssertionError) as error:
        raise _refusal(error) from error


def training_passes(run: NetworkParts, backend: str = "inductor") -> Autocast:
    """Return the context of the forward passes of training steps.

    A model that is compiled is compiled here, so that a mistake is found before the first step.
    """
    if not run.settings.trainer.compile:
        return run.autocast
    say("The model is compiled now (trainer.compile=true), which takes a while.")
    start = time.perf_counter()
    # The losses of some pretext tasks call the features and not the model.
    function = "features" if isinstance(run.task, Pretext) else "forward"
    try:
        passes = CompiledPasses(run.model, function, run.autocast, backend)
    except RuntimeError as error:
        raise _refusal(error) from error
    _compile(run, passes)
    say(f"The model was compiled in {time.perf_counter() - start:.0f} s.")
    return passes


def _compile(run: NetworkParts, passes: Autocast) -> None:
    """Take a training pass of each size that the parts of a batch have. Weights and running statistics do not change.

    If memory runs out, the parts are halved, as in a step.
    """
    guard = Guard(run.model, waits=True)
    guard.remember()

    def begin_again() -> None:
        run.model.zero_grad(set_to_none=True)
        guard.return_to_start()

    def pass_parts() -> None:
        parts = {len(part.x): part for part in training_parts(run, run.batch_size)}
        for part in parts.values():
            _pass(run, part, passes)

    was_training = run.model.training
    run.model.train()
    if run.finetuning is not None:
        run.finetuning.begin_epoch(run.position.epoch)
    try:
        with torch.random.fork_rng([run.device] if run.device.type == "cuda" else []):
            run.micro_batch.within_memory(pass_parts, begin_again)
    except (RuntimeError, AssertionError) as error:
        raise _refusal(error) from error
    finally:
        begin_again()
        run.model.train(was_training)


def _pass(run: NetworkParts, part: Batch, passes: Autocast) -> None:
    """Take a forward and a backward pass of a part of a batch, as in training."""
    with run.processes.share(run.model):
        with passes():
            loss, _ = run.task.loss(run.model, part)
        loss.backward()


def _refusal(error: BaseException) -> UserError:
    """Return a sentence that names the option and the reason why a model cannot be compiled."""
    # An error of the compiler has its cause in the first line, and a trace of the compiled code below it.
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(" .")
    return UserError(
        f"trainer.compile=true: the model cannot be compiled here ({reason}). Expected a C++ compiler (CPU) or Triton "
        "(CUDA), and a version of Python that torch.compile supports; or trainer.compile=false."
    )
