"""Configuration -> objects. Every signature can be checked before anything is built or read."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}


def build(config: DictConfig) -> Any:
    """Build what a configuration names with ``_target_`` (with ``_partial_``: a function with its arguments bound).

    Raises
    ------
    UserError
        If the target or one of its arguments is unknown, or of the wrong type.
    """
    import hydra.errors
    import hydra.utils

    check(config, "")
    accepted = inspect.signature(hydra.utils.instantiate).parameters
    # Hydra 1.4 wants the targets that may be called named by the caller; 1.3 does not know the argument.
    # The user's own configuration names them, extensions included; configurations of others are not read.
    allowed = {"_execution_whitelist_": _targets(config)} if "_execution_whitelist_" in accepted else {}
    try:
        return hydra.utils.instantiate(config, _convert_="all", **allowed)
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, UserError):  # what we refused ourselves needs no wrapping
            raise error.__cause__ from None
        raise


def check(config: Any, key: str) -> None:
    """Bind every ``_target_`` in a configuration against its signature, without calling it.

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


def unknown_name(given: str, name: str, known: Sequence[str]) -> str:
    """A sentence for an unknown name: what was given, the close matches, and what there is."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? There are" if close else "there are"
    return f"{given}: unknown; {hint} {', '.join(sorted(known))}."


def _check_target(config: DictConfig, key: str) -> None:
    import hydra.utils

    target = config["_target_"]
    try:
        function = hydra.utils.get_object(target)
    except Exception as error:  # hydra wraps whatever importing the target raised
        raise UserError(f"{key}._target_={target}: cannot be found ({str(error).splitlines()[0]}).") from None
    if not callable(function):
        raise UserError(f"{key}._target_={target}: expected a function or a class.")
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
    """Refuse a value that is plainly not of the annotated scalar type; other annotations are not judged."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    scalars: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
    if not options or not all(option in scalars or option is type(None) for option in options):
        return
    types = tuple(t for option in options for t in scalars.get(option, (type(None),)))
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "text",
            type(None): "null",
        }
        raise UserError(f"{key}={value}: expected {' or '.join(names[option] for option in options)}.")


def _targets(config: Any) -> list[str]:
    """Every ``_target_`` in a configuration."""
    from omegaconf import DictConfig, ListConfig

    if isinstance(config, DictConfig):
        own = [str(config["_target_"])] if "_target_" in config else []
        return own + [target for value in config.values() for target in _targets(value)]
    return [target for value in config for target in _targets(value)] if isinstance(config, ListConfig) else []


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
