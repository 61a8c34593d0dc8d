"""Which runs are the same run: hashes of the configuration and of the source."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import einthoven
from einthoven.errors import UserError
from einthoven.runs.config.options import config_hash, hashed_options, logged_options, plain_options
from einthoven.runs.config.outside import outside_modules, source_hash
from einthoven.runs.config.settings import FEATURE_GROUPS, is_feature_model
from einthoven.tracking.privacy import without_folders

if TYPE_CHECKING:
    from omegaconf import DictConfig

_NOT_HASHED = ("app", "report", "terminal", "tracking")
"""Packages that do not change the results of a run."""

_HASHED_SUFFIXES = (".py", ".csv", ".json")
"""Source, and the tables and fitted numbers that the source reads."""

_MODELS = ("assets", "bundles")
"""Folders of the models that come with the package. A run that uses one has the hash of its weights."""

_MAX_NAMED = 3
"""A sentence names at most this many changed options."""


def identity_tags(config: DictConfig) -> dict[str, str]:
    """Return the tags that are equal for two runs with the same configuration and the same source.

    Two such runs give the same results on the same records (tag ``data.fingerprint``).

    ``config.hash`` covers the whole configuration with the seed, without folders and without the groups that only
    report a run (tracking, figure, advice). ``code.hash`` covers the source of this package and of the modules outside
    of it that the configuration names. It does not depend on git: two edits of one commit differ. Versions of other
    packages, and a device that the configuration leaves open, are not covered.
    """
    from omegaconf import OmegaConf

    if is_feature_model(config):
        config = OmegaConf.masked_copy(config, list(FEATURE_GROUPS))
    return {
        "config.hash": config_hash(plain_options(config)),
        "code.hash": code_hash(outside_modules(config)),
    }


def code_hash(modules: tuple[str, ...] = ()) -> str:
    """Return twelve hex digits of the source of this package, and of modules outside of it."""
    package_hash = _package_hash()
    if not modules:
        return package_hash
    return hashlib.sha256(f"{package_hash} {source_hash(modules)}".encode()).hexdigest()[:12]


def refuse_other_options(config: DictConfig, trained: Mapping[str, Any], run: str, free: Sequence[str] = ()) -> None:
    """Refuse a run whose configuration is not the one that it was trained with (`logged_options`).

    The options `free` may be different. `run` is the option that named the folder, for the message.
    """
    # JSON turns tuples and other values into what the checkpoint holds.
    now = json.loads(json.dumps(hashed_options(logged_options(plain_options(config))), default=str))
    before = hashed_options(trained)
    missing = object()
    names = [name for name in sorted(before.keys() | now.keys()) if name not in free]
    changes = [
        f"{name} was {_as_written(before, name)} and is {_as_written(now, name)}"
        for name in names
        if before.get(name, missing) != now.get(name, missing)
    ]
    if changes:
        rest = f" (and {len(changes) - _MAX_NAMED} more)" if len(changes) > _MAX_NAMED else ""
        raise UserError(
            f"{run}: config.yaml was changed after the checkpoint was written: {', '.join(changes[:_MAX_NAMED])}"
            f"{rest}; expected the options that the run was trained with (other options make another run)."
        )


def _as_written(options: Mapping[str, Any], name: str) -> str:
    """Return the value of an option as it is written in a configuration."""
    if name not in options:
        return "not given"
    value = options[name]
    return value if isinstance(value, str) else json.dumps(value)


@cache
def _package_hash() -> str:
    """Return twelve hex digits of the source and the tables of this package, of the packages that results depend on."""
    root = Path(einthoven.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        is_model = not set(_MODELS).isdisjoint(name.parts)
        if path.suffix in _HASHED_SUFFIXES and name.parts[0] not in _NOT_HASHED and not is_model:
            digest.update(name.as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def git_commit() -> str:
    """Return the commit of the checkout, with ``-dirty`` if it was changed; empty without git."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def logged_overrides(overrides: Sequence[str]) -> str:
    """Return the options of the command line as they are logged: without folders, and without ``again``."""
    return shlex.join(without_folders(override) for override in overrides if not override.startswith("again="))
