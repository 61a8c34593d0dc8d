"""Optimizers of the ``pytorch-optimizer`` package, by name."""

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

REHEARSED_STEPS = 12
"""Steps of the trial run. Several optimizers change their rule at the tenth step."""
_PREFIXES_OF_OTHER_PACKAGES = ("bnb", "q_galore", "torchao")
"""Names of optimizers in other packages, which pytorch-optimizer can load but does not list."""


def library(
    model: nn.Module,
    *,
    name: str,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    options: Mapping[str, Any],
) -> Optimizer:
    """Build an optimizer of the ``pytorch-optimizer`` package, such as adopt, ademamix, soap or prodigy.

    Parameters
    ----------
    model
        Its trainable parameters are optimized.
    name
        Name in the package.
    lr, weight_decay
        Peak learning rate; decay of weights of 2 or more dimensions, coupled or decoupled as the optimizer defines it.
    options
        Further arguments of the optimizer.

    Raises
    ------
    UserError
        If the package is not installed or has no optimizer of that name. Also if the optimizer cannot be used here: it
        does not know an option, needs more than parameters, numbers and one gradient per step, or cannot be saved and
        continued.
    """
    try:
        import pytorch_optimizer
    except ImportError:
        raise UserError(
            "optimizer=library needs the package pytorch-optimizer: install einthoven[optimizers]."
        ) from None
    check(lr=lr, weight_decay=weight_decay)
    known = pytorch_optimizer.get_supported_optimizers()
    if name.lower() not in known and not name.lower().startswith(_PREFIXES_OF_OTHER_PACKAGES):
        close = difflib.get_close_matches(name.lower(), known, cutoff=0.5)
        raise UserError(
            f"optimizer.name={name}: expected one of the {len(known)} optimizers of pytorch-optimizer"
            + (f"; did you mean {' or '.join(close)}?" if close else ", as its documentation lists them.")
        )
    try:
        optimizer_class = pytorch_optimizer.load_optimizer(name)
    except (ImportError, RuntimeError) as error:
        # Another package is missing, needs CUDA, or does not know the name.
        raise UserError(f"optimizer.name={name}: cannot be used here ({error}).") from None

    # The package ignores an unknown option silently, so the options are compared with the signature here.
    parameters = list(inspect.signature(optimizer_class).parameters.values())[1:]
    accepted = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
    arguments = {"lr": lr, **options}
    for option in options:
        if option in ("lr", "weight_decay"):
            raise UserError(f"optimizer.options.{option}: expected optimizer.{option}=… instead.")
    for option in arguments:
        if option not in accepted:
            raise UserError(f"optimizer.options.{option}: {name} takes {', '.join(accepted)}.")

    def make(network: nn.Module) -> Optimizer:
        optimizer: Optimizer = optimizer_class(parameter_groups(network, weight_decay), **arguments)
        if not all("lr" in group for group in optimizer.param_groups):
            raise ValueError("it has no learning rate that a schedule could change")
        return with_initial_lr(optimizer)

    _rehearse(make, shrunk(model), name)
    _check_state_fits(make, model, name)
    return make(model)


def _check_state_fits(make: Callable[[nn.Module], Optimizer], model: nn.Module, name: str) -> None:
    """Refuse an optimizer whose state for this model is larger than a checkpoint allows, before it takes the memory.

    The optimizer takes two steps on meta tensors, which have a shape and no values. Some optimizers stop when they need
    a value. Then the state up to that point counts.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    meta_parameters = nn.ParameterList(nn.Parameter(torch.empty_like(p, device="meta")) for p in parameters)
    optimizer = make(meta_parameters)

    def closure() -> Tensor:
        for parameter in meta_parameters:
            parameter.grad = torch.empty_like(parameter)
        return torch.zeros(())

    # The optimizers of the package raise exceptions of many types.
    with contextlib.suppress(Exception):
        for _ in range(2):
            optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float
    state_bytes = _count_bytes(dict(optimizer.state))
    weight_bytes = sum(p.numel() * p.element_size() for p in parameters)
    most = most_state_bytes(weight_bytes)
    if state_bytes > most:
        raise UserError(
            f"optimizer.name={name}: keeps {state_bytes >> 20:,} MiB beside the weights of this model, expected at "
            f"most {most >> 20:,} MiB; choose another optimizer, or a model without such wide layers."
        )


def _count_bytes(state: object) -> int:
    """Return the bytes of all tensors in nested containers."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(_count_bytes, state.values()))
    if isinstance(state, list | tuple):
        return sum(map(_count_bytes, state))
    return 0


def _rehearse(make: Callable[[nn.Module], Optimizer], model: nn.Module, name: str) -> None:
    """Build, step, save, load and step again, as a run does, to refuse an unsuitable optimizer before a run.

    Some optimizers of the package need second derivatives, the model itself, only matrices, or special groups. Others
    have a state that a checkpoint cannot hold. A list of their names would be outdated with the next version of the
    package, so each optimizer is tried.
    """
    twin = deepcopy(model)
    attempt = "cannot be built from parameters and options"
    try:
        optimizer = make(model)
        attempt = "cannot train this model with one gradient a step"
        for _ in range(REHEARSED_STEPS):
            _step(optimizer, model)
        attempt = "cannot leave a step out"
        _check_can_skip_a_step(optimizer, model)
        attempt = "cannot be saved in a checkpoint"
        _check_can_be_saved(optimizer.state_dict(), "state")
        attempt = "cannot be continued from a checkpoint"
        twin.load_state_dict(model.state_dict())
        continued = make(twin)
        continued.load_state_dict(deepcopy(optimizer.state_dict()))
        _step(optimizer, model)
        _step(continued, twin)
        pairs = zip(model.parameters(), twin.parameters(), strict=True)
        if not all(torch.equal(expected, actual) for expected, actual in pairs):
            raise ValueError("after loading its state, the next step differs")
    except Exception as error:
        # The package can raise any exception. The user gets one sentence.
        lines = str(error).strip().splitlines()
        reason = lines[0].rstrip(".") if lines else type(error).__name__
        raise UserError(f"optimizer.name={name}: {attempt} ({reason}).") from None


def _step(optimizer: Optimizer, model: nn.Module) -> None:
    """Take one step as the training loop does. The loss is the squared distance of the parameters from 1."""

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack([(p - 1.0).square().sum() for p in model.parameters()]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    if hasattr(optimizer, "train"):
        optimizer.train()
    # Some optimizers draw noise. It must not change the random numbers of the run.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float


class _SkipStepError(Exception):
    """The closure raises it in place of a gradient that is not finite."""


def _check_can_skip_a_step(optimizer: Optimizer, model: nn.Module) -> None:
    """Refuse an optimizer that changes the weights although the closure raises an exception.

    The training loop skips a step in this way if the gradient is not finite.
    """

    def closure() -> Tensor:
        raise _SkipStepError

    before = [p.detach().clone() for p in model.parameters()]
    with contextlib.suppress(_SkipStepError):
        optimizer.step(closure)  # type: ignore[arg-type]  # torch's stub says float
    if not all(map(torch.equal, before, model.parameters())):
        raise ValueError("it moves the weights before it asks for the gradient")


def shrunk(model: nn.Module) -> nn.Module:
    """Return a small model whose parameters have as many dimensions as the trainable parameters of `model`.

    Each size is replaced by its rank among all sizes. Equal sizes stay equal, and a larger size stays larger, so that
    an optimizer treats the small parameters like the original ones.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    sizes = sorted({size for p in parameters for size in p.shape} | {1})
    ranks = {size: rank + 1 for rank, size in enumerate(sizes)}
    generator = torch.Generator().manual_seed(0)
    small_parameters = nn.ParameterList()
    for parameter in parameters:
        shape = [ranks[size] for size in parameter.shape]
        small_parameters.append(nn.Parameter(torch.randn(shape, generator=generator)))
    return small_parameters


def _check_can_be_saved(state: object, place: str) -> None:
    """Refuse a state that a checkpoint cannot hold. It holds dicts, lists, tuples, tensors and plain values."""
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
