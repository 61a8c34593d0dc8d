"""Whose code a configuration or a bundle may name.

To build what a file names is to run it, and a run folder or a bundle can come from a stranger. So each option accepts
only objects of its own kind that are defined in its own package, in ``torch.nn`` or in ``torch.optim``. The user
trusts other code by ``--trust MODULE``, or by naming it in the configuration of the command itself.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Self, get_type_hints

from einthoven.errors import UserError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+", re.ASCII)  # no private part
_LONGEST_SHOWN = 100  # characters of a name in a sentence


@dataclass(frozen=True)
class Part:
    """What an option accepts without ``--trust``: where it is defined, and of what kind it is."""

    what: str
    """The kind, for sentences."""
    packages: tuple[str, ...]
    """The object is defined in one of these modules, or in a module inside of one."""
    classes: tuple[str, ...] = ()
    """It is a subclass of one of these classes, or a function that returns an instance of one."""
    methods: tuple[str, ...] = ()
    """It is a class with all of these methods."""
    parameters: tuple[str, ...] = ()
    """It is a function, or a class with a ``__call__``, that takes all of these arguments."""


_MODULE = "torch.nn.modules.module.Module"

PARTS = {
    "advice": Part(
        "limits of the rules",
        packages=("einthoven.diagnostics.rules",),
        classes=("einthoven.diagnostics.rules.base.Limits",),
    ),
    "augment": Part(
        "an augmentation",
        packages=("einthoven.augment",),
        parameters=("x", "y", "generator"),
    ),
    "calibration": Part(
        "a calibration",
        packages=("einthoven.evaluation.calibration",),
        methods=("fit", "transform"),
    ),
    "data": Part(
        "a source of records",
        packages=("einthoven.data",),
        methods=("open", "labels"),
    ),
    "explanation": Part(
        "a method of explanation",
        packages=("einthoven.evaluation",),
        parameters=("model", "x", "target"),
    ),
    "figure": Part(
        "a figure of runs",
        packages=("einthoven.report",),
        parameters=("trials",),
    ),
    "init": Part(
        "an initialization",
        packages=("einthoven.models.init",),
        parameters=("network", "x"),
    ),
    "loss": Part(
        "a loss",
        packages=("einthoven.losses",),
        parameters=("y", "output", "prior"),
    ),
    "model": Part(
        "a model",
        packages=("einthoven.models", "torch.nn"),
        classes=(_MODULE, "einthoven.models.features.FeatureModel"),
    ),
    "network": Part(  # of a bundle, which holds no configuration
        "a network",
        packages=("einthoven.models", "torch.nn"),
        classes=(_MODULE,),
    ),
    "optimizer": Part(
        "an optimizer",
        packages=("einthoven.optim", "torch.optim"),
        classes=("torch.optim.optimizer.Optimizer",),
    ),
    "pca": Part(
        "a frontend",
        packages=("einthoven.models.frontend", "einthoven.models.time_frontend"),
        classes=(_MODULE,),
    ),
    "penalty": Part(
        "a penalty",
        packages=("einthoven.optim.penalties",),
        classes=("einthoven.optim.penalties.Penalty",),
    ),
    "analysis": Part(
        "an analysis",
        packages=("einthoven.diagnostics", "einthoven.runs.interpolation"),
        parameters=("trained",),
    ),
    "schedule": Part(
        "a schedule",
        packages=("einthoven.optim.schedules", "einthoven.optim.plateau", "torch.optim.lr_scheduler"),
        parameters=("step", "total_steps"),
    ),
    "task": Part(
        "a task",
        packages=("einthoven.tasks",),
        methods=("encode", "fit", "loss", "metrics"),
    ),
}
"""What each option of a configuration accepts. A target inside of an option is a target of that option."""

INSIDE = {"task.objective": "loss"}
"""Places inside of an option that take what another option takes."""

_trusted: set[str] = set()


@contextmanager
def trusting(names: Iterable[str]) -> Iterator[None]:
    """Trust these modules, objects or addresses, and those that `trust` adds, until the block ends."""
    before = set(_trusted)
    _trusted.update(names)
    try:
        yield
    finally:
        _trusted.clear()
        _trusted.update(before)


def trust(names: Iterable[str]) -> None:
    """Trust these modules (with the modules inside of them), objects or addresses too."""
    _trusted.update(names)


def trusted() -> tuple[str, ...]:
    """What is trusted now, to be handed to another process."""
    return tuple(sorted(_trusted))


def modules() -> tuple[str, ...]:
    """Top-level modules outside of einthoven and torch that are trusted now."""
    tops = {name.partition(".")[0] for name in _trusted if "/" not in name}
    return tuple(sorted(tops - {"einthoven", "torch"}))


def is_trusted(name: object) -> bool:
    """Whether a name is that of a trusted object, or of something in a trusted module."""
    return isinstance(name, str) and _is_inside(name, _trusted)


def check_name(name: object, key: str) -> None:
    """Refuse a name that an option cannot accept, before anything is imported for it.

    Parameters
    ----------
    name : object
        What a file states as a target.
    key : str
        Dotted option that it stands in, such as ``augment.transforms.noise``.

    Raises
    ------
    UserError
    """
    if not isinstance(name, str):
        raise UserError(f"{shown(name)}: expected the dotted name of a function or a class.")
    if is_trusted(name):
        return
    part = part_of(key)
    if part is None:
        raise UserError(f"{shown(name)}: no code is expected here; it is expected in {', '.join(PARTS)}.")
    if not _NAME.fullmatch(name):
        raise UserError(f"{shown(name)}: expected the dotted name of {part.what}, without private parts.")
    if not _is_inside(name, part.packages):
        raise _refusal(name, name, part)


def accepted(name: str, key: str) -> Any:
    """Find the object of a name that an option accepts.

    Parameters
    ----------
    name : str
    key : str
        As in `check_name`.

    Raises
    ------
    UserError
        If there is no such object, or the option does not accept it.
    """
    check_name(name, key)
    part = part_of(key)
    found = _located(name, part)
    if not callable(found):
        raise UserError(f"{shown(name)}: expected a function or a class.")
    home = str(getattr(found, "__module__", None))
    if name in _trusted or is_trusted(home):
        return found
    if part is None or not _is_inside(home, part.packages):
        raise _refusal(name, home, part)
    if not _is_kind(found, part):
        raise UserError(f"{shown(name)}: expected {part.what}.")
    return found


def part_of(key: str) -> Part | None:
    """What is accepted at a dotted option; None if no code is."""
    return PARTS.get(INSIDE.get(key, key.partition(".")[0]))


def whitelist(key: str) -> tuple[str, ...]:
    """Everything that may be built at a dotted option, as Hydra 1.4 takes it: names, and modules that end in ``.*``."""
    inside = [place for place in INSIDE if place.startswith(f"{key}.")]
    parts = [part_of(place) for place in (key, *inside)]
    modules = [module for part in parts if part is not None for module in part.packages]
    names = [name for name in trusted() if "/" not in name]
    return (*names, *(f"{module}.*" for module in (*modules, *names)))


def _refusal(name: str, home: str, part: Part | None) -> UserError:
    """A sentence for an object that is defined in another module than the option accepts."""
    where = "" if name == home else f"defined in {shown(home)}; "
    top = home.partition(".")[0]
    known = {name.partition(".")[0], top} & {"einthoven", "torch", *sys.stdlib_module_names}
    if part is not None and (known or not top.isidentifier()):
        return UserError(f"{shown(name)}: {where}expected {part.what} of {' or '.join(part.packages)}.")
    return UserError(
        f"{shown(name)}: {where}this code is not part of einthoven; "
        f"add --trust {shown(top)} to the command if you trust its author."
    )


def shown(name: object) -> str:
    """A name as a sentence can hold it: printable, and not too long."""
    text = str(name)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _located(name: str, part: Part | None) -> Any:
    """The object of a dotted name; its module is imported.

    It is found in the same order as by Hydra: an attribute, and where there is none, a module.
    """
    first, *rest = name.split(".")
    path = first
    try:
        found: Any = import_module(first)
        for step in rest:
            path = f"{path}.{step}"
            if inspect.ismodule(found) and not hasattr(found, step):
                found = import_module(path)
            else:
                found = getattr(found, step)
            # A module that another one has imported leads out of the package: einthoven.models.mlp.torch.
            if inspect.ismodule(found) and found.__name__ != path and not is_trusted(path):
                raise _refusal(name, found.__name__, part)
    except UserError:
        raise
    except Exception as error:  # whatever the code of a module raises when it is imported
        reason = str(error).strip().splitlines() or [type(error).__name__]
        where = ""
        if isinstance(error, ModuleNotFoundError) and is_trusted(path):
            where = "; expected its module in a folder of PYTHONPATH"
        raise UserError(f"{shown(name)}: cannot be found ({reason[0]}){where}.") from None
    return found


def _is_kind(found: Any, part: Part) -> bool:
    """Whether an object is what an option expects."""
    is_class = inspect.isclass(found)
    if not is_class and not (inspect.isroutine(found) and found.__module__.startswith("einthoven.")):
        return False
    if part.methods:
        return is_class and all(callable(getattr(found, method, None)) for method in part.methods)
    if part.parameters:
        called = found.__call__ if is_class else found
        return set(part.parameters) <= set(inspect.signature(called).parameters)
    made = found if is_class else _returned(found)
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in getattr(made, "__mro__", ())]
    return any(name in part.classes for name in names)


def _returned(function: Any) -> Any:
    """The class that a function states to return; of a class method that returns ``Self``, its class."""
    stated = get_type_hints(function).get("return")
    return getattr(function, "__self__", None) if stated is Self else stated
