"""Convert a group of the configuration to its dataclass."""

from __future__ import annotations

import re
from dataclasses import fields
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from einthoven.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

T = TypeVar("T")

_WRONG_TYPES = {
    r"Value '(.*)' of type '\w+' could not be converted to Integer": "a whole number",
    r"Value '(.*)' of type '\w+' could not be converted to Float": "a number",
    r"Value '(.*)' is not a valid bool": "true or false",
    r"Incompatible value '(None)' for field of type": "a value",
}
"""What OmegaConf says about a value that is not of the type of its field -> what is expected."""


def read_group(config: DictConfig, schema: type[T], key: str) -> T:
    """Convert a group of the configuration to its dataclass.

    Parameters
    ----------
    config : DictConfig
    schema : type
        One of the dataclasses of this package.
    key : str
        Dotted option of the group, for messages.

    Raises
    ------
    UserError
        If a field is unknown or missing, or its value has a wrong type or is out of range.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    from einthoven.build import LARGEST_INTEGER, iterate_values, unknown_name

    prefix = f"{key}." if key else ""
    names = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    if not isinstance(config, DictConfig):
        raise UserError(f"{key}={config}: expected {', '.join(f'{prefix}{name}' for name in names)}.")
    for name in map(str, config):
        if name not in names:
            raise UserError(unknown_name(f"{prefix}{name}", name, names))
    try:
        values = OmegaConf.to_container(config, resolve=True)
        structured = _structured(schema)  # type: ignore[arg-type]  # a class is hashable
        result = OmegaConf.to_object(OmegaConf.merge(structured, values))
    except MissingMandatoryValue as error:
        name = f"{prefix}{error.full_key}"
        raise UserError(f"{name}: no value given; expected {name}=VALUE.") from None
    except (ConfigKeyError, OmegaConfBaseException) as error:
        message = str(error).splitlines()[0]
        for pattern, expected in _WRONG_TYPES.items():
            wrong = re.match(pattern, message)
            if wrong:
                value = "null" if wrong[1] == "None" else wrong[1]
                raise UserError(f"{prefix}{error.full_key}={value}: expected {expected}.") from None
        raise UserError(f"{prefix}{error.full_key}: {message[0].lower()}{message[1:].rstrip('.')}.") from None
    for option, value in iterate_values(config, key):
        if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
            raise UserError(f"{option}={value}: expected a number of at most 64 bits.")
    assert isinstance(result, schema)
    return result


@cache
def _structured(schema: type[object]) -> DictConfig:
    """Return a dataclass as a configuration without values. OmegaConf evaluates every annotation for it."""
    from omegaconf import OmegaConf

    return OmegaConf.structured(schema)
