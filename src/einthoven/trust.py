"""Decide which code a configuration or a bundle may name.

Building an object that a file names runs its code, and a run folder or a bundle can come from a stranger. So each
option accepts only objects of the expected kind that are defined in the package of the option, in ``torch.nn`` or in
``torch.optim``. The user trusts other code with ``--trust MODULE``, or by naming it in the configuration of the command
itself.
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

from einthoven.errors import UserError, first_line

_PUBLIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+", re.ASCII)
"""A dotted name. No part of it begins with an underscore."""
_LONGEST_SHOWN = 100
"""Characters of a name that a message shows."""


@dataclass(frozen=True)
class _Part:
    """What an option accepts without ``--trust``: the place of the definition, and the kind of object.

    The kind is one of `classes`, `methods` and `parameters`.
    """

    kind: str
    """The kind in words, for messages."""
    packages: tuple[str, ...]
    """The object is defined in one of these modules, or in a module inside of one."""
    classes: tuple[str, ...] = ()
    """The object is a subclass of one of these classes, or a function that returns an instance of one."""
    methods: tuple[str, ...] = ()
    """The object is a class with all of these methods."""
    parameters: tuple[str, ...] = ()
    """The object is a function, or a class with a ``__call__``, with all of these parameters."""


_MODULE = "torch.nn.modules.module.Module"

PARTS = {
    "advice": _Part(
        "limits of the rules",
        packages=("einthoven.diagnostics.rules",),
        classes=("einthoven.diagnostics.rules.base.Limits",),
    ),
    "augment": _Part(
        "an augmentation",
        packages=("einthoven.augment",),
        parameters=("x", "y", "generator"),
    ),
    "calibration": _Part(
        "a calibration",
        packages=("einthoven.evaluation.calibration",),
        methods=("fit", "transform"),
    ),
    "data": _Part(
        "a source of records",
        packages=("einthoven.data",),
        methods=("open", "labels"),
    ),
    "explanation": _Part(
        "a method of explanation",
        packages=("einthoven.evaluation",),
        parameters=("model", "x", "target"),
    ),
    "figure": _Part(
        "a figure of runs",
        packages=("einthoven.report",),
        parameters=("trials",),
    ),
    "init": _Part(
        "an initialization",
        packages=("einthoven.models.init",),
        parameters=("network", "x"),
    ),
    "loss": _Part(
        "a loss",
        packages=("einthoven.losses",),
        parameters=("y", "output", "prior"),
    ),
    "model": _Part(
        "a model",
        packages=("einthoven.models", "torch.nn"),
        classes=(_MODULE, "einthoven.models.features.FeatureModel"),
    ),
    "mean_with": _Part(
        "a model of ECG features",
        packages=("einthoven.models",),
        classes=("einthoven.models.features.FeatureModel",),
    ),
    # A bundle contains no configuration. It names its network here.
    "network": _Part(
        "a network",
        packages=("einthoven.models", "torch.nn"),
        classes=(_MODULE,),
    ),
    "optimizer": _Part(
        "an optimizer",
        packages=("einthoven.optim", "torch.optim"),
        classes=("torch.optim.optimizer.Optimizer",),
    ),
    "pca": _Part(
        "a frontend",
        packages=("einthoven.models.frontend", "einthoven.models.time_frontend"),
        classes=(_MODULE,),
    ),
    "penalty": _Part(
        "a penalty",
        packages=("einthoven.optim.penalties", "einthoven.optim.base_penalties"),
        classes=("einthoven.optim.penalties.Penalty",),
    ),
    "analysis": _Part(
        "an analysis",
        packages=(
            "einthoven.diagnostics",
            "einthoven.runs.comparison.interpolation",
            "einthoven.runs.comparison.weight_posterior",
        ),
        parameters=("trained",),
    ),
    "schedule": _Part(
        "a schedule",
        packages=("einthoven.optim.schedules", "einthoven.optim.plateau", "torch.optim.lr_scheduler"),
        parameters=("step", "total_steps"),
    ),
    "task": _Part(
        "a task",
        packages=("einthoven.tasks",),
        methods=("encode", "fit", "loss", "metrics"),
    ),
}
"""Option of the configuration -> what it accepts. A target inside of an option is a target of that option."""

INSIDE = {"task.objective": "loss"}
"""Positions inside of an option that accept what another option accepts."""

_trusted: set[str] = set()


@contextmanager
def trusting(names: Iterable[str]) -> Iterator[None]:
    """Trust these modules, objects or addresses until the block ends. What `trust` adds in the block ends with it."""
    before = set(_trusted)
    _trusted.update(names)
    try:
        yield
    finally:
        _trusted.clear()
        _trusted.update(before)


def trust(names: Iterable[str]) -> None:
    """Trust these modules (with the modules inside of them), objects or addresses."""
    _trusted.update(names)


def trusted() -> tuple[str, ...]:
    """Return all trusted names, for example to give them to another process."""
    return tuple(sorted(_trusted))


def is_trusted(name: object) -> bool:
    """Return whether a name is trusted itself, or lies inside of a trusted module."""
    return isinstance(name, str) and _is_inside(name, _trusted)


def check_name(name: object, key: str) -> None:
    """Refuse the name of a target that an option, such as ``augment.transforms.noise``, cannot accept.

    Nothing is imported.
    """
    if not isinstance(name, str):
        raise UserError(f"{printable(name)}: expected the dotted name of a function or a class.")
    if is_trusted(name):
        return
    part = _part_of(key)
    if part is None:
        raise UserError(f"{printable(name)}: no code is expected here; it is expected in {', '.join(PARTS)}.")
    if not _PUBLIC_NAME.fullmatch(name):
        raise UserError(f"{printable(name)}: expected the dotted name of {part.kind}, without private parts.")
    if not _is_inside(name, part.packages):
        raise _refusal(name, name, part)


def find_target(name: str, key: str) -> Any:
    """Import and return the object of a name, if the option accepts it. Otherwise it is refused, as by `check_name`."""
    check_name(name, key)
    part = _part_of(key)
    target = _locate(name, part)
    if not callable(target):
        raise UserError(f"{printable(name)}: expected a function or a class.")

    # An accepted module can import an object from elsewhere: the module that defines the object counts.
    home = str(getattr(target, "__module__", None))
    if name in _trusted or is_trusted(home):
        return target
    if part is None or not _is_inside(home, part.packages):
        raise _refusal(name, home, part)
    if not _is_kind(target, part):
        raise UserError(f"{printable(name)}: expected {part.kind}.")
    return target


def _part_of(key: str) -> _Part | None:
    """Return what a dotted option accepts, or None if it accepts no code."""
    return PARTS.get(INSIDE.get(key, key.partition(".")[0]))


def _refusal(name: str, home: str, part: _Part | None) -> UserError:
    """Return the error for an object that is defined in a module (`home`) that the option does not accept."""
    definition = "" if name == home else f"defined in {printable(home)}; "
    top_level = home.partition(".")[0]

    # `--trust` is proposed only for a module of the user: never for torch, einthoven or a module of Python.
    own_modules = {"einthoven", "torch", *sys.stdlib_module_names}
    is_own = name.partition(".")[0] in own_modules or top_level in own_modules
    if part is not None and (is_own or not top_level.isidentifier()):
        return UserError(f"{printable(name)}: {definition}expected {part.kind} of {' or '.join(part.packages)}.")
    return UserError(
        f"{printable(name)}: {definition}this code is not part of einthoven; "
        f"add --trust {printable(top_level)} to the command if you trust its author."
    )


def printable(name: object) -> str:
    """Return a name for a message: printable, and at most 100 characters long."""
    text = str(name)
    if not text.isprintable():
        text = repr(text)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _is_inside(name: str, modules: Iterable[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _locate(name: str, part: _Part | None) -> Any:
    """Import and return the object of a dotted name.

    Each step is an attribute of the object before it, or else a module inside of it.
    """
    first, *rest = name.split(".")
    path = first
    try:
        target: Any = import_module(first)
        for step in rest:
            path = f"{path}.{step}"
            if inspect.ismodule(target) and not hasattr(target, step):
                target = import_module(path)
            else:
                target = getattr(target, step)
            # A module that another module has imported leads out of the package: einthoven.models.mlp.torch.
            if inspect.ismodule(target) and target.__name__ != path and not is_trusted(path):
                raise _refusal(name, target.__name__, part)
    except UserError:
        raise
    except Exception as error:
        # The code of a module can raise any exception when it is imported.
        advice = ""
        if isinstance(error, ModuleNotFoundError) and first != "einthoven":
            advice = "; expected its module in a folder of PYTHONPATH"
        raise UserError(f"{printable(name)}: cannot be found ({first_line(error)}){advice}.") from None
    return target


def _is_kind(target: Any, part: _Part) -> bool:
    """Return whether an object is of the kind that an option expects."""
    is_class = inspect.isclass(target)
    is_own_function = inspect.isroutine(target) and target.__module__.startswith("einthoven.")
    if not is_class and not is_own_function:
        return False
    if part.methods:
        return is_class and all(callable(getattr(target, method, None)) for method in part.methods)
    if part.parameters:
        function = target.__call__ if is_class else target
        return set(part.parameters) <= set(inspect.signature(function).parameters)
    result_class = target if is_class else _return_class(target)
    ancestors = getattr(result_class, "__mro__", ())
    return any(f"{ancestor.__module__}.{ancestor.__qualname__}" in part.classes for ancestor in ancestors)


def _return_class(function: Any) -> Any:
    """Return the class in the return annotation of a function. ``Self`` of a class method is its class."""
    annotation = get_type_hints(function).get("return")
    return getattr(function, "__self__", None) if annotation is Self else annotation
