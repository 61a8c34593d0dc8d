"""Optimizers that others maintain, by name."""

from __future__ import annotations

import contextlib
import difflib
import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from einthoven.errors import UserError
from einthoven.optim.groups import check, most_state_bytes, parameter_groups, with_initial_lr

REHEARSED_STEPS = 12  # several optimizers change what they do at their tenth step
_OF_OTHER_PACKAGES = ("bnb", "q_galore", "torchao")  # which pytorch-optimizer hands on, and does not list


def library(
    model: nn.Module,
    *,
    name: str,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    options: Mapping[str, Any],
) -> Optimizer:
    """One of the optimizers of the ``pytorch-optimizer`` package, such as adopt, ademamix, soap or prodigy.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    name
        As the package spells it.
    lr, weight_decay
        Peak learning rate; decay of weights of 2 or more dimensions, coupled or not as the optimizer has it.
    options
        Further arguments of the optimizer.

    Raises
    ------
    UserError
        If the package is not installed, has no optimizer of that name, or one that cannot be used here: it does not
        know an option, needs more than parameters, numbers and one gradient a step, or cannot be saved and continued.
    """
    try:
        import pytorch_optimizer
    except ImportError:
        raise UserError(
            "optimizer=library needs the package pytorch-optimizer: install einthoven[optimizers]."
        ) from None
    check(lr=lr, weight_decay=weight_decay)
    known = pytorch_optimizer.get_supported_optimizers()
    if name.lower() not in known and not name.lower().startswith(_OF_OTHER_PACKAGES):
        close = difflib.get_close_matches(name.lower(), known, cutoff=0.5)
        raise UserError(
            f"optimizer.name={name}: expected one of the {len(known)} optimizers of pytorch-optimizer"
            + (f"; did you mean {' or '.join(close)}?" if close else ", as its documentation lists them.")
        )
    try:
        kind = pytorch_optimizer.load_optimizer(name)
    except (ImportError, RuntimeError) as error:  # another package is missing, needs CUDA, or does not know the name
        raise UserError(f"optimizer.name={name}: cannot be used here ({error}).") from None
    parameters = list(inspect.signature(kind).parameters.values())[1:]
    accepted = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    given = {"lr": lr, **options}
    for option in options:
        if option in ("lr", "weight_decay"):
            raise UserError(f"optimizer.options.{option}: expected optimizer.{option}=… instead.")
    for option in given:
        if option not in accepted:  # the package would swallow it without a word
            raise UserError(f"optimizer.options.{option}: {name} takes {', '.join(accepted)}.")

    def make(of: nn.Module) -> Optimizer:
        optimizer: Optimizer = kind(parameter_groups(of, weight_decay), **given)
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError("it has no learning rate that a schedule could change")
        return with_initial_lr(optimizer)

    _rehearse(make, shrunk(model), name)
    _check_state_fits(make, model, name)
    return make(model)


def _check_state_fits(make: Callable[[nn.Module], Optimizer], model: nn.Module, name: str) -> None:
    """Refuse an optimizer that keeps more of this model than a checkpoint holds, before it takes that memory.

    It takes two steps on tensors without content, which have sizes alone. Some optimizers ask for a value there: of
    those, what they have kept until then is counted.

    Raises
    ------
    UserError
        With the memory that it would take.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    hollow = nn.ParameterList(nn.Parameter(torch.empty_like(p, device="meta")) for p in parameters)
    optimizer = make(hollow)

    def closure() -> Tensor:
        for parameter in hollow:
            parameter.grad = torch.empty_like(parameter)
        return torch.zeros(())

    with contextlib.suppress(Exception):  # whatever the package raises
        for _ in range(2):
            optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float
    kept = _bytes_of(dict(optimizer.state))
    most = most_state_bytes(sum(p.numel() * p.element_size() for p in parameters))
    if kept > most:
        raise UserError(
            f"optimizer.name={name}: keeps {kept >> 20:,} MiB beside the weights of this model, expected at most "
            f"{most >> 20:,} MiB; choose another optimizer, or a model without such wide layers."
        )


def _bytes_of(state: object) -> int:
    """Bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_bytes_of, state.values()))
    return sum(map(_bytes_of, state)) if isinstance(state, list | tuple) else 0


def _rehearse(make: Callable[[nn.Module], Optimizer], model: nn.Module, name: str) -> None:
    """Build, step, save, load and step again, as a run does, so that what cannot be done is refused before a run.

    The optimizers of the package differ in what they ask for: second derivatives, the model itself, matrices alone,
    groups of a special kind. Others keep what a checkpoint does not hold. A list of their names would be out of date
    with the next version, so each is tried.

    Raises
    ------
    UserError
        Names what failed.
    """
    twin = deepcopy(model)
    attempt = "cannot be built from parameters and options"
    try:
        optimizer = make(model)
        attempt = "cannot train this model with one gradient a step"
        for _ in range(REHEARSED_STEPS):
            _step(optimizer, model)
        attempt = "cannot leave a step out"
        _check_leaves_a_step_out(optimizer, model)
        attempt = "cannot be saved in a checkpoint"
        _check_can_be_saved(optimizer.state_dict(), "state")
        attempt = "cannot be continued from a checkpoint"
        twin.load_state_dict(model.state_dict())
        continued = make(twin)
        continued.load_state_dict(deepcopy(optimizer.state_dict()))
        _step(optimizer, model)
        _step(continued, twin)
        pairs = zip(model.parameters(), twin.parameters(), strict=True)
        if not all(torch.equal(expected, found) for expected, found in pairs):
            raise ValueError("after loading its state, the next step differs")
    except Exception as error:  # whatever the package raises, the user gets one sentence
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise UserError(f"optimizer.name={name}: {attempt} ({reason}).") from None


def _step(optimizer: Optimizer, model: nn.Module) -> None:
    """One step as the training loop takes it; the loss is the squared distance of the parameters from 1."""

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([(p - 1.0).square().sum() for p in model.parameters()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    if hasattr(optimizer, "train"):
        optimizer.train()
    with torch.random.fork_rng(devices=[]):  # some draw noise; the random numbers of the run stay what they are
        torch.manual_seed(0)
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float


class _LeftOutError(Exception):
    """Stands for a gradient that is not finite, with which no step is taken."""


def _check_leaves_a_step_out(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer that has moved the weights when the closure is left, as the training loop may do."""

    def closure() -> Tensor:
        raise _LeftOutError

    before = [p.detach().clone() for p in model.parameters()]
    with contextlib.suppress(_LeftOutError):
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float
    if not all(map(torch.equal, before, model.parameters())):
        raise ValueError("it moves the weights before it asks for the gradient")


def shrunk(model: nn.Module) -> nn.Module:
    """A model whose trainable parameters have as many dimensions as those of `model`, and small ones.

    Sizes that are equal stay equal, and a larger one stays larger, so that an optimizer that takes matrices alone, or
    pairs of them, finds what it would find.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    sizes = sorted({size for p in parameters for size in p.shape} | {1})
    small = {size: rank + 1 for rank, size in enumerate(sizes)}
    generator = torch.Generator().manual_seed(0)
    shapes = [[small[size] for size in p.shape] for p in parameters]
    copies = [torch.randn(shape, generator=generator) for shape in shapes]
    return nn.ParameterList(nn.Parameter(copy) for copy in copies)


def _check_can_be_saved(state: object, place: str) -> None:
    """Refuse what a checkpoint does not hold: it takes dicts, lists, tuples, tensors and plain values."""
    if state is None or isinstance(state, Tensor) or type(state) in (bool, int, float, str):
        return
    if isinstance(state, Mapping):
        for key, value in state.items():
            if type(key) not in (str, int):
                raise TypeError(f"it has the key {key!r} in {place}, expected text or a whole number")
            _check_can_be_saved(value, f"{place}.{key}")
    elif type(state) in (list, tuple):
        for number, value in enumerate(state):  # type: ignore[arg-type]  # mypy does not follow type(…) in (…)
            _check_can_be_saved(value, f"{place}.{number}")
    else:
        raise TypeError(f"it keeps a {type(state).__name__} in {place}")
