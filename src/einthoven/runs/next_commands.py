"""What the user has typed, so that a printed command gives it again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from einthoven.command_line import command, in_make, option
from einthoven.schema import Tracking
from einthoven.tracking.artifacts import DEFAULT_URI, usual_uri
from einthoven.tracking.places import trusted_for
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.server import without_password

_OF_ONE_RUN = {"hydra.mode", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"}


def hydra_options(hydra: Any) -> list[str]:
    """Hydra's own options that another run needs too: where configurations are found, how jobs are launched.

    Parameters
    ----------
    hydra : DictConfig or HydraConf
        The node ``hydra`` of a composed configuration.
    """
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    flags = [word for folder in folders for word in ("--config-dir", folder)]
    return [*flags, *(option for option in hydra.overrides.hydra if name_of(option) not in _OF_ONE_RUN)]


def without(options: Sequence[str], *groups: str) -> list[str]:
    """Options but those of some groups: ``optimizer`` leaves out optimizer=…, optimizer.lr=… and optimizer@…."""
    return [option for option in options if re.split(r"[.@]", name_of(option))[0] not in groups]


def name_of(option: str) -> str:
    """The name in ``NAME=VALUE``, without the mark of an option that is added or removed."""
    return option.lstrip("+~").partition("=")[0]


def as_typed(options: Sequence[str], typed: Sequence[str]) -> list[str] | None:
    """Options of one run of a sweep as the user has typed them, with the folders that its tag does not tell.

    Parameters
    ----------
    options : sequence of str
        As in the tag of the run.
    typed : sequence of str
        All options of the sweep.

    Returns
    -------
    list of str or None
        None if two folders of the sweep have the same last name, so that the tag does not say which is meant.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    meant: dict[str, set[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(typed)):
        name = override.get_key_element()
        if not override.is_sweep_override():
            told = f"{name}={override.get_value_element_as_str()}"
            meant.setdefault(without_folders(told), set()).add(str(override.input_line))
        elif override.is_discrete_sweep():
            for value in override.sweep_string_iterator():
                meant.setdefault(without_folders(f"{name}={value}"), set()).add(f"{name}={value}")
    found = [meant.get(option, {option}) for option in options]
    if any(len(candidates) > 1 for candidates in found):
        return None
    return [next(iter(candidates)) for candidates in found]


def resume_command(folder: Path, tracking: Tracking) -> str:
    """Return the command that continues an interrupted run."""
    trusted = trusted_for(tracking.uri, tracking.register, tracking.alias)
    return command("train", option("resume", folder), trusted=trusted)


def evaluate_command(folder: Path, uri: str) -> str:
    """How to evaluate a finished run."""
    return command("evaluate", option("run", folder), trusted=trusted_for(uri))


def ui_command(uri: str) -> str:
    """How to look at a tracking store; empty for a server, which has a page of its own."""
    if not uri.startswith("sqlite"):
        return ""
    if uri == DEFAULT_URI:
        return "make ui" if in_make() else command("ui")
    return command("ui", f"uri={uri}")


def report_command(run_id: str, uri: str) -> str:
    """How to have a run on one page; the password of a store is not printed."""
    return command("report", run_id, *([] if uri == usual_uri() else [f"uri={without_password(uri)}"]))
