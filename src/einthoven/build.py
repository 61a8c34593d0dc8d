"""Configuration -> objects. Every signature can be checked before anything is built or read."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from einthoven import trust
from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

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


def _join(key: str, name: object) -> str:
    return f"{key}.{name}" if key else str(name)
