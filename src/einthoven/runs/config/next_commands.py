"""Commands that the program prints, with the options that the user has typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from einthoven.command_line import command, in_make, option, train_command
from einthoven.files import seen_from_here
from einthoven.schema import Tracking
from einthoven.tracking.places import trusted_for
from einthoven.tracking.privacy import SHORTENED, without_folders
from einthoven.tracking.server import without_password
from einthoven.tracking.usual_store import usual_uri

_OF_ONE_RUN = {"hydra.mode", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"}
"""Hydra's options that another run must not have."""


@dataclass(frozen=True)
class ExampleRecord:
    """A record of a run."""

    file: Path
    """Relative to the working folder if it is below it."""
    split: str
    """``test`` or ``validation``."""
    labels: tuple[str, ...] | None
    """The classes that hold for it; None if the task has no classes."""

    @property
    def in_words(self) -> str:
        """What the record is, for a person who compares an answer with it."""
        if self.labels is None:
            return f"a {self.split} record"
        if not self.labels:
            return f"a {self.split} record without a label"
        plural = "s" if len(self.labels) > 1 else ""
        return f"a {self.split} record with the label{plural} {' '.join(self.labels)}"


def hydra_options(hydra: Any) -> list[str]:
    """Return Hydra's own options that another run needs, too: the folders of configurations and the launcher."""
    flags = []
    for source in hydra.runtime.config_sources:
        if source.provider == "command-line":
            flags += ["--config-dir", source.path]
    options = [option for option in hydra.overrides.hydra if name_of_override(option) not in _OF_ONE_RUN]
    return [*flags, *options]


def without(options: Sequence[str], *names: str) -> list[str]:
    """Leave out options: ``optimizer`` leaves out optimizer=…, optimizer.lr=… and optimizer@…."""
    others = []
    for override in options:
        name = name_of_override(override)
        if name not in names and not name.startswith(tuple(f"{excluded}{mark}" for excluded in names for mark in ".@")):
            others.append(override)
    return others


def name_of_override(override: str) -> str:
    """Return the name of an option: ``+model.width=8`` -> ``model.width``."""
    return override.lstrip("+~").partition("=")[0]


def as_typed(options: Sequence[str], typed: Sequence[str]) -> list[str] | None:
    """Return the options of one run of a sweep as the user has typed them, with the folders that its tag leaves out.

    The result is None if the tag does not say which folder is meant: two folders of the sweep have the same last name,
    or the user has not typed the option.
    """
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    # An option with one value is the same in every run. Map each value of the others, without folders, to what was
    # typed.
    loader = GlobalHydra.instance().config_loader() if GlobalHydra.instance().is_initialized() else None
    fixed: dict[str, str] = {}
    swept: dict[str, set[str]] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(typed)):
        name = override.get_key_element()
        if not override.is_sweep_override():
            fixed[name_of_override(name)] = str(override.input_line)
        elif override.is_discrete_sweep():
            for value in override.sweep_string_iterator():
                swept.setdefault(without_folders(f"{name}={value}"), set()).add(f"{name}={value}")

    result: list[str] = []
    for logged_option in options:
        same_option = fixed.get(name_of_override(logged_option), logged_option)
        matches = swept.get(logged_option, {same_option})
        is_shortened = same_option == logged_option and SHORTENED in logged_option and logged_option not in swept
        if len(matches) > 1 or is_shortened:
            return None
        result += matches
    return result


def resume_command(folder: Path, tracking: Tracking) -> str:
    """Return the command that continues an interrupted run."""
    trusted = trusted_for(tracking.uri, tracking.register, tracking.alias)
    return command("train", option("resume", seen_from_here(folder)), trusted=trusted)


def init_from_command(folder: Path, overrides: Sequence[str]) -> str:
    """Return the command that trains a classifier from the weights of a pretraining, on the same data.

    Of the options of the pretraining, those of its data are kept.
    """
    of_data = [override for override in overrides if not without([override], "data", "folds")]
    return train_command(*of_data, option("init_from", seen_from_here(folder)))


def evaluate_command(folder: Path, uri: str) -> str:
    """Return the command that evaluates a finished run."""
    return command("evaluate", option("run", seen_from_here(folder)), trusted=trusted_for(uri))


def bundle_commands(folder: Path, record: ExampleRecord | None) -> list[tuple[str, str]]:
    """Return the commands that answer with the bundle in a folder, each with its purpose.

    Without a record to answer for, only the web page is left: the other commands need a file.
    """
    bundle = str(seen_from_here(folder))
    commands = []
    if record is not None:
        commands += [
            (command("predict", bundle, str(record.file)), f"read {record.in_words}, or an ECG file of yours"),
            (command("explain", bundle, str(record.file)), "draw what the answer rests on"),
        ]
    return [*commands, (command("app", bundle), "open a web page for ECG files, on this machine only")]


def ui_command(uri: str) -> str:
    """Return the command that opens a tracking store; empty for a server, which has its own page."""
    if not uri.startswith("sqlite"):
        return ""
    if uri == usual_uri():
        return "make ui" if in_make() else command("ui")
    return command("ui", f"uri={uri}")


def report_command(run_id: str, uri: str) -> str:
    """Return the command that writes the report of a run. It does not contain the password of the store."""
    return command("report", run_id, *([] if uri == usual_uri() else [f"uri={without_password(uri)}"]))
