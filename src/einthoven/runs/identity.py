"""Which runs are the same run: configuration, source, records."""

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
from einthoven.runs import assemble, feature_run
from einthoven.runs.outside import outside_modules, source_hash
from einthoven.tracking.privacy import without_folders

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SHOWS = ("app", "report", "terminal", "tracking")  # rooms that no number of a run follows from
_NAMED = 3  # changed options, at most, in a sentence


def identity(config: DictConfig) -> dict[str, str]:
    """Tags that two runs share if they are to end at the same numbers; the records, ``data.fingerprint``, apart.

    ``config.hash`` is of the whole configuration, the seed included, without what is only told or shown of a run
    (tracking, figure, advice) and without folders. ``code.hash`` is of this package's source and of the modules outside
    of it that the configuration names, whatever git says: two edits of one commit differ, and an installed package has
    one too. Versions of other packages, and the device where
    the configuration leaves it open, are not part of it.
    """
    from omegaconf import OmegaConf

    if feature_run.is_fitted(config):
        config = OmegaConf.masked_copy(config, list(feature_run.USED))
    return {
        "config.hash": assemble.config_hash(assemble.plain(config)),
        "code.hash": code_hash(outside_modules(config)),
    }


def code_hash(modules: tuple[str, ...] = ()) -> str:
    """Twelve hex digits of the source of this package, and of modules outside of it that a configuration names."""
    own = _own_hash()
    return own if not modules else hashlib.sha256(f"{own} {source_hash(modules)}".encode()).hexdigest()[:12]


def refuse_other_options(config: DictConfig, before: Mapping[str, Any], run: str, free: Sequence[str] = ()) -> None:
    """Refuse a run whose configuration was changed after its checkpoint was written.

    Parameters
    ----------
    config : DictConfig
        As read from the folder of the run.
    before : mapping
        Options as the checkpoint has them (`assemble.shown`).
    run : str
        The option that named the folder, for the sentence.
    free : sequence of str
        Options that may be different.

    Raises
    ------
    UserError
        Names the options, with both values.
    """
    now = json.loads(json.dumps(assemble.relevant(assemble.shown(assemble.plain(config))), default=str))
    then = assemble.relevant(before)
    nothing = object()
    changed = [
        f"{name} was {_written(then, name)} and is {_written(now, name)}"
        for name in sorted(then.keys() | now.keys())
        if name not in free and then.get(name, nothing) != now.get(name, nothing)
    ]
    if changed:
        more = f" (and {len(changed) - _NAMED} more)" if len(changed) > _NAMED else ""
        raise UserError(
            f"{run}: config.yaml was changed after the checkpoint was written: {', '.join(changed[:_NAMED])}{more}; "
            "expected the options that the run was trained with (other options make another run)."
        )


def _written(options: Mapping[str, Any], name: str) -> str:
    """A value as it is written in a configuration."""
    if name not in options:
        return "not given"
    value = options[name]
    return value if isinstance(value, str) else json.dumps(value)


@cache
def _own_hash() -> str:
    """Twelve hex digits of the source of this package and its tables, of the rooms that results follow from."""
    root, digest = Path(einthoven.__file__).parent, hashlib.sha256()
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.csv")]):
        if path.relative_to(root).parts[0] not in _SHOWS:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def git_commit() -> str:
    """Commit of the checkout that this package runs from, ``-dirty`` if it was changed; empty if git tells none."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def shown_overrides(overrides: Sequence[str]) -> str:
    """Options as they are typed, fit to be logged: without folders; ``again`` is none of the run itself."""
    return shlex.join(without_folders(each) for each in overrides if not each.startswith("again="))
