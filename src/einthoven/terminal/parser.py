"""The argument parser of commands that take files. A wrong argument is one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from einthoven.errors import UserError


class Parser(argparse.ArgumentParser):
    """Parses the arguments of one verb. Names of options cannot be abbreviated.

    Parameters
    ----------
    verb : str
        The word after ``einthoven``. Its help text is in `einthoven.terminal.usage`.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(prog=f"einthoven {verb}", add_help=False, allow_abbrev=False)
        self._verb = verb

    def add_reading(self) -> None:
        """Add the options for files that do not state their sampling frequency, unit or leads."""
        self.add_argument("--fs", type=float)
        self.add_argument("--units")
        self.add_argument("--leads", type=lambda text: tuple(text.split(",")))

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments. `argparse` calls this method.

        Raises
        ------
        UserError
            Always.
        """
        raise UserError(f"{self._verb}: {message}; {self.prog} --help shows what is expected.")


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `Parser.add_reading` that the user gave, as keyword arguments of `read_record`.

    The messages of the reader name these options.
    """
    values = {name: getattr(options, name) for name in ("fs", "units", "leads")}
    given = {name: value for name, value in values.items() if value is not None}
    return {**given, "option_style": "--{name} {value}"}


def bundles_and_files(paths: Sequence[str], verb: str) -> tuple[list[str], list[str]]:
    """Split paths into bundles, which come first, and files.

    Raises
    ------
    UserError
        If there are no files.
    """
    bundles = list(takewhile(_is_bundle, paths))
    if len(bundles) == len(paths):
        raise UserError(f"{verb}: no FILE given; expected records, folders of them or patterns, after the bundles.")
    return bundles, list(paths[len(bundles) :])


def _is_bundle(path: str) -> bool:
    """Return whether a path names a bundle or a run. A run without a bundle is refused later, with advice.

    So is the folder of a cross-validation.
    """
    # Imports torch, which not every verb needs.
    from einthoven.predict.model_folder import BUNDLE, CHECKPOINTS, DESCRIPTION, FOLD

    if path.startswith(("runs:/", "models:/")):
        return True
    patterns = (DESCRIPTION, f"{BUNDLE}/{DESCRIPTION}", CHECKPOINTS, f"{FOLD}*/{CHECKPOINTS}")
    return any(any(Path(path).glob(pattern)) for pattern in patterns)
