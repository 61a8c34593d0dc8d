"""The parser of verbs that take files: what it refuses is one sentence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from einthoven.errors import UserError


class Parser(argparse.ArgumentParser):
    """Options of one verb, by their whole names.

    Parameters
    ----------
    verb : str
        After ``einthoven``; its help is that of the command line.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(prog=f"einthoven {verb}", add_help=False, allow_abbrev=False)
        self._verb = verb

    def add_reading(self) -> None:
        """Take what files may not say of themselves: sampling frequency, unit and names of leads."""
        self.add_argument("--fs", type=float)
        self.add_argument("--units")
        self.add_argument("--leads", type=lambda text: tuple(text.split(",")))

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises
        ------
        UserError
            Always.
        """
        raise UserError(f"{self._verb}: {message}; {self.prog} --help shows what is expected.")


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """What of `Parser.add_reading` was given, as `einthoven.data.formats.reading.read_record` takes it."""
    return {name: getattr(options, name) for name in ("fs", "units", "leads") if getattr(options, name) is not None}


def bundles_and_files(paths: Sequence[str], verb: str) -> tuple[list[str], list[str]]:
    """Bundles, which come first, and the rest, of which there is some.

    Raises
    ------
    UserError
        If there are no files.
    """
    named = list(takewhile(_is_bundle, paths))
    if len(named) == len(paths):
        raise UserError(f"{verb}: no FILE given; expected records, folders of them or patterns, after the bundles.")
    return named, list(paths[len(named) :])


def _is_bundle(path: str) -> bool:
    """Whether an argument names a bundle, or a run, which may lack one: then it is said what to do."""
    from einthoven.predict import DESCRIPTION  # and torch, which not every verb needs

    inside = (DESCRIPTION, f"bundle/{DESCRIPTION}", "checkpoints")
    return path.startswith(("runs:/", "models:/")) or any((Path(path) / name).exists() for name in inside)
