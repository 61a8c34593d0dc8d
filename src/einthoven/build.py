"""Configuration -> objects. Every signature can be checked before anything is built or read."""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from einthoven import trust
from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

LARGEST_INTEGER = 2**63 - 1
"""PyTorch and NumPy accept no larger integer."""

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def build(config: DictConfig, key: str | None = None) -> Any:
    """Build the object that a configuration names with ``_target_``.

    With ``_partial_: true`` the result is a `functools.partial` of the target with the arguments of the configuration.
    Nested configurations are built first. Lists and dicts become plain Python lists and dicts. The keys have the same
    meaning as in ``hydra.utils.instantiate``. Only the objects are plain: Hydra wraps each partial in an object that
    repeats its checks in every call, which makes a schedule many times slower (``bench/bench_build.py``).

    Parameters
    ----------
    config : DictConfig
    key : str, optional
        Dotted option of the configuration, which decides what may be built (`einthoven.trust`). The default is the
        position of `config` in the configuration that contains it.

    Raises
    ------
    UserError
        If the target or one of its arguments is unknown, has the wrong type, or is not accepted at this option.
    """
    option = str(config._get_full_key(None)) if key is None else key
    # All targets are checked before the first one is called.
    check(config, option)
    return _construct(config, option)


def _construct(config: Any, key: str, *, nested: bool = True) -> Any:
    """Build a checked configuration. With ``nested=False`` it becomes plain values, and no target in it is called."""
    from omegaconf import DictConfig, ListConfig

    if isinstance(config, ListConfig):
        return [_construct(item, _join(key, number), nested=nested) for number, item in enumerate(config)]
    if not isinstance(config, DictConfig):
        return config
    if config._is_none():
        return None
    if "_target_" not in config or not nested:
        return {name: _construct(value, _join(key, name), nested=nested) for name, value in config.items()}

    if config.get("_convert_", "all") != "all":
        raise UserError(f"{_join(key, '_convert_')}={config['_convert_']}: expected all.")
    recursive = _read_flag(config, "_recursive_", key, default=True)
    arguments = {}
    for name, value in config.items():
        if name not in _HYDRA_KEYS:
            arguments[str(name)] = _construct(value, _join(key, name), nested=recursive)
    positional = _construct(config.get("_args_", []), _join(key, "_args_"), nested=recursive)

    function = trust.find_target(config["_target_"], key)
    if _read_flag(config, "_partial_", key, default=False):
        return partial(function, *positional, **arguments)
    return function(*positional, **arguments)


def _read_flag(config: DictConfig, name: str, key: str, *, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise UserError(f"{_join(key, name)}={trust.printable(value)}: expected true or false.")
    return value


def check(config: Any, key: str) -> None:
    """Compare each ``_target_`` with the objects that its option accepts and with its signature. Call nothing.

    Raises
    ------
    UserError
        Names the first option that does not fit, and the close matches.
    """
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(config, DictConfig):
        for name in config:
            if OmegaConf.is_missing(config, name):
                raise UserError(f"{_join(key, name)} is not set; give it as {_join(key, name)}=…")
            check(config[name], _join(key, name))
        if "_target_" in config:
            _check_target(config, key)
    elif isinstance(config, ListConfig):
        for number, item in enumerate(config):
            check(item, _join(key, number))


def iterate_values(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a configuration with its dotted option.

    Options without a value and the options of Hydra itself are left out.
    """
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(config, DictConfig):
        for name in config:
            is_hydra = key == "" and name == "hydra"
            if not is_hydra and not OmegaConf.is_missing(config, name):
                yield from iterate_values(config[name], _join(key, name))
    elif isinstance(config, ListConfig):
        for number, item in enumerate(config):
            yield from iterate_values(item, _join(key, number))
    else:
        yield key, config


def trust_named(config: DictConfig) -> None:
    """Trust the code and the addresses that a configuration names.

    Use it only for a configuration that the user has composed: from the command line, and from folders that the user
    names there.
    """
    for key, value in iterate_values(config):
        if isinstance(value, str) and (key.endswith("_target_") or "://" in value):
            trust.trust([value])


def unknown_name(option: str, name: str, names: Sequence[str]) -> str:
    """Return a sentence about an unknown name: the input of the user, the close matches, and all known names."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? There are" if close else "there are"
    return f"{option}: unknown; {hint} {', '.join(sorted(names))}."


def _check_target(config: DictConfig, key: str) -> None:
    """Compare one configuration with the signature of its target."""
    try:
        function = trust.find_target(config["_target_"], key)
    except UserError as error:
        # The message begins with the name of the target.
        raise UserError(f"{_join(key, '_target_')}={error}") from None
    parameters, hints = _read_signature(function)
    takes_any_keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    # Each option must be a parameter, and its value must fit the annotation.
    for name, value in config.items():
        if name in _HYDRA_KEYS:
            continue
        if name not in parameters and not takes_any_keyword:
            raise UserError(unknown_name(_join(key, name), str(name), list(parameters)))
        _check_type(hints.get(str(name)), value, _join(key, name))

    # A target that is called now needs all parameters without a default.
    if not config.get("_partial_"):
        for name, parameter in parameters.items():
            is_variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if name not in config and parameter.default is parameter.empty and not is_variadic:
                raise UserError(f"{_join(key, name)} is not set; give it as {_join(key, name)}=…")


# Each run of a sweep checks the same few functions.
@cache
def _read_signature(function: Callable[..., Any]) -> tuple[Mapping[str, inspect.Parameter], Mapping[str, Any]]:
    """Return the parameters of a target, and their annotations."""
    parameters = inspect.signature(function).parameters
    try:
        if inspect.isclass(function):
            # A dataclass has annotations of its base classes, which are written in the names of their modules.
            names: dict[str, Any] = {}
            for base in reversed(inspect.getmro(function)):
                names |= vars(sys.modules[base.__module__])
            hints = get_type_hints(function.__init__, localns=names)
        else:
            hints = get_type_hints(function)
    except (NameError, TypeError):
        # The annotation is imported for type checking only, or the callable has no annotations.
        hints = {}
    return parameters, hints


def _check_type(hint: Any, value: Any, key: str) -> None:
    """Refuse a value that does not have the annotated type.

    Only scalars and lists of scalars are checked. A value with any other annotation passes.
    """
    from omegaconf import ListConfig

    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not all(_is_scalar(alternative) or _item_hints(alternative, 0) for alternative in alternatives):
        return
    for alternative in alternatives:
        if isinstance(value, list | tuple | ListConfig) and _item_hints(alternative, 0):
            _check_items(alternative, value, key)
            return

    expected = " or ".join(_describe_hint(alternative) for alternative in alternatives)
    scalar_types: list[type] = []
    for alternative in alternatives:
        if _is_scalar(alternative):
            scalar_types.extend(_SCALARS[alternative][0])
    # A bool is an int in Python, but it is no number in a configuration.
    is_unexpected_bool = isinstance(value, bool) and bool not in scalar_types
    if not isinstance(value, tuple(scalar_types)) or is_unexpected_bool:
        raise UserError(f"{key}={value}: expected {expected}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{key}={value}: expected {expected}, and a finite one.")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise UserError(f"{key}={value}: expected {expected}, and one of at most 64 bits.")


_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "text"),
    Path: ((str, Path), "a path"),
    type(None): ((type(None),), "null"),
}
"""Annotation -> the types of values that fit it, and its name in a sentence."""


def _is_scalar(hint: Any) -> bool:
    return isinstance(hint, type) and hint in _SCALARS


def _item_hints(hint: Any, length: int) -> tuple[Any, ...]:
    """Return the annotation of each item of a list of scalars, or an empty tuple for any other annotation.

    An annotation such as ``Sequence[float]`` fits lists of any length. For it, the result has `length` items, and at
    least one.
    """
    arguments = get_args(hint)
    is_open_tuple = get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis
    if is_open_tuple:
        return (arguments[0],) * max(length, 1) if _is_scalar(arguments[0]) else ()
    if get_origin(hint) not in (list, tuple, Sequence) or not all(map(_is_scalar, arguments)):
        return ()
    return arguments if get_origin(hint) is tuple else arguments * max(length, 1)


def _check_items(hint: Any, value: Any, key: str) -> None:
    """Refuse a list if its length or one of its items does not fit the annotation."""
    hints = _item_hints(hint, len(value))
    if get_origin(hint) is tuple and len(hints) != max(len(value), 1):
        raise UserError(f"{key}={list(value)}: expected {_describe_hint(hint)}.")
    for number, (item_hint, item) in enumerate(zip(hints, value, strict=False)):
        _check_type(item_hint, item, f"{key}[{number}]")


def _describe_hint(hint: Any) -> str:
    """Return an annotation in words."""
    if _is_scalar(hint):
        return _SCALARS[hint][1]
    arguments = [argument for argument in get_args(hint) if argument is not Ellipsis]
    item = _SCALARS[arguments[0]][1]
    if len(arguments) > 1:
        return f"a list of {len(arguments)} items, each {item}"
    return f"a list, each item {item}"


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
