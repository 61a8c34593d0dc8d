"""Configuration -> objects. Every signature can be checked before anything is built or read."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from einthoven import trust
from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

LARGEST_INTEGER = 2**63 - 1
"""PyTorch and NumPy take no larger one."""

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def build(config: DictConfig, key: str | None = None) -> Any:
    """Build what a configuration names with ``_target_`` (with ``_partial_``: a function with its arguments bound).

    Parameters
    ----------
    config : DictConfig
    key : str, optional
        Dotted option that the configuration is of; it decides what may be built (`einthoven.trust`). By default, the
        place of `config` in the configuration that it is a part of.

    Raises
    ------
    UserError
        If the target or one of its arguments is unknown, of the wrong type or not accepted at this option.
    """
    import hydra.errors
    import hydra.utils

    option = str(config._get_full_key(None)) if key is None else key
    check(config, option)
    known = inspect.signature(hydra.utils.instantiate).parameters
    # Hydra 1.4 compares each target with a list of the caller; 1.3 does not know the argument.
    allowed = {"_execution_whitelist_": trust.whitelist(option)} if "_execution_whitelist_" in known else {}
    try:
        return hydra.utils.instantiate(config, _convert_="all", **allowed)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, UserError):  # what we refused ourselves needs no wrapping
            raise error.__cause__ from None
        raise


def check(config: Any, key: str) -> None:
    """Compare every ``_target_`` with what its option accepts and with its signature, without calling it.

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


def values(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a configuration, with its dotted option; what is not set, and what is Hydra's own, is left out."""
    from omegaconf import DictConfig, ListConfig, OmegaConf

    if isinstance(config, DictConfig):
        for name in config:
            if not OmegaConf.is_missing(config, name) and (key or name != "hydra"):
                yield from values(config[name], _join(key, name))
    elif isinstance(config, ListConfig):
        for number, item in enumerate(config):
            yield from values(item, _join(key, number))
    else:
        yield key, config


def trust_named(config: DictConfig) -> None:
    """Trust the code and the addresses of a configuration that the user has composed.

    It comes from the command line, and from folders that the user names there.
    """
    for key, value in values(config):
        if isinstance(value, str) and (key.endswith("_target_") or "://" in value):
            trust.trust([value])


def unknown_name(given: str, name: str, known: Sequence[str]) -> str:
    """A sentence for an unknown name: what was given, the close matches, and what there is."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? There are" if close else "there are"
    return f"{given}: unknown; {hint} {', '.join(sorted(known))}."


def _check_target(config: DictConfig, key: str) -> None:
    try:
        function = trust.accepted(config["_target_"], key)
    except UserError as error:  # it begins with the target
        raise UserError(f"{_join(key, '_target_')}={error}") from None
    parameters = inspect.signature(function).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    try:
        hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError):  # imported for type checking alone, or a callable without annotations
        hints = {}
    for name, value in config.items():
        if name in _HYDRA_KEYS:
            continue
        if name not in parameters and not open_ended:
            raise UserError(unknown_name(_join(key, name), str(name), list(parameters)))
        _check_type(hints.get(str(name)), value, _join(key, name))
    if not config.get("_partial_"):
        for name, parameter in parameters.items():
            fixed = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            if name not in config and parameter.default is parameter.empty and not fixed:
                raise UserError(f"{_join(key, name)} is not set; give it as {_join(key, name)}=…")


def _check_type(hint: Any, value: Any, key: str) -> None:
    """Refuse a value that is plainly not of the annotated type: scalars and lists of them; no other type is judged."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if not all(_is_scalar(option) or _item_hints(option, 0) for option in options):
        return
    for option in options:
        if _is_list(value) and _item_hints(option, 0):
            _check_items(option, value, key)
            return
    expected = " or ".join(_named(option) for option in options)
    types = tuple(kind for option in options if _is_scalar(option) for kind in _SCALARS[option][0])
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
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
"""Annotation -> types of values that fit it, and its name in a sentence."""


def _is_scalar(hint: Any) -> bool:
    return isinstance(hint, type) and hint in _SCALARS


def _is_list(value: Any) -> bool:
    from omegaconf import ListConfig

    return isinstance(value, list | tuple | ListConfig)


def _item_hints(hint: Any, length: int) -> tuple[Any, ...]:
    """Annotations of the items of a list of scalars; empty for any other annotation.

    An annotation such as ``Sequence[float]`` stands for lists of any length, here of `length` items or one.
    """
    arguments = get_args(hint)
    if get_origin(hint) not in (list, tuple, Sequence) or not all(map(_is_scalar, arguments)):
        any_length = get_origin(hint) is tuple and len(arguments) == 2 and arguments[1] is Ellipsis
        return (arguments[0],) * max(length, 1) if any_length and _is_scalar(arguments[0]) else ()
    return arguments if get_origin(hint) is tuple else arguments * max(length, 1)


def _check_items(hint: Any, value: Any, key: str) -> None:
    """Refuse a list whose items, or their number, do not fit."""
    hints = _item_hints(hint, len(value))
    if get_origin(hint) is tuple and len(hints) != max(len(value), 1):
        raise UserError(f"{key}={list(value)}: expected {_named(hint)}.")
    for number, (item_hint, item) in enumerate(zip(hints, value, strict=False)):
        _check_type(item_hint, item, f"{key}[{number}]")


def _named(hint: Any) -> str:
    """An annotation in words."""
    if _is_scalar(hint):
        return _SCALARS[hint][1]
    arguments = [argument for argument in get_args(hint) if argument is not Ellipsis]
    item = _SCALARS[arguments[0]][1]
    return f"a list of {len(arguments)} items, each {item}" if len(arguments) > 1 else f"a list, each item {item}"


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
