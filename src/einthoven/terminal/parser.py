"""The argument parser of commands that take files. A wrong argument is one sentence."""

from __future__ import annotations

import argparse
import glob
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from einthoven.build import unknown_name
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

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the options and files of a command line, which may stand in any order.

        Raises a `UserError` if an option is unknown or has a wrong value, or a file is missing.
        """
        check_words(self._verb, arguments)
        # argparse drops the first `--` in some versions of Python only. `./` keeps a file such as -x.csv a file.
        words = list(arguments)
        if "--" in words:
            end = words.index("--")
            words[end:] = [f"./{word}" if word.startswith("-") else word for word in words[end + 1 :]]

        options, unknown = self.parse_known_intermixed_args(words)
        known = [text for action in self._actions for text in action.option_strings]
        check_flags(self._verb, unknown, known)
        if unknown:
            raise UserError(
                f"{self._verb}: {unknown[0]}: one word too many; {self.prog} --help shows what is expected."
            )
        return options

    def add_reading(self) -> None:
        """Add the options for files that do not state their sampling frequency, unit or leads."""
        self.add_argument("--fs", type=float)
        self.add_argument("--units")
        self.add_argument("--leads", type=lambda text: tuple(text.split(",")))

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments. `argparse` calls this method."""
        raise UserError(f"{self._verb}: {message}; {self.prog} --help shows what is expected.")


def check_words(verb: str, words: Sequence[str]) -> None:
    """Refuse an empty word. As a path, it would be the working folder."""
    if "" in words:
        raise UserError(f"{verb}: a word of the command is empty; expected a file, a folder or an option.")


def check_flags(verb: str, words: Sequence[str], known: Sequence[str] = ()) -> None:
    """Refuse an option that a verb does not have: a word with a dash at the start that is not `known`."""
    check_words(verb, words)
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name not in known:
            raise UserError(unknown_name(f"{verb}: {name}", name, [*known, "--trust", "--help"]))


def reading(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `Parser.add_reading` that the user gave, as keyword arguments of `read_record`.

    The messages of the reader name these options.
    """
    values = {name: getattr(options, name) for name in ("fs", "units", "leads")}
    given = {name: value for name, value in values.items() if value is not None}
    return {**given, "option_style": "--{name} {value}"}


def bundles_and_files(paths: Sequence[str], verb: str) -> tuple[list[str], list[str]]:
    """Split paths into bundles and files, each in the order of the command line.

    Raises a `UserError` if there are no files, or if there is no bundle, but a path that does not exist: it may be a
    bundle that is misspelled, and another model would answer.
    """
    bundles: list[str] = []
    files: list[str] = []
    for path in paths:
        if _is_bundle(path):
            bundles.append(path)
        else:
            files.append(path)
    if not files:
        raise UserError(f"{verb}: no FILE given; expected records, folders of them or patterns.")
    for path in files if not bundles else []:
        if _is_nothing(path):
            raise UserError(f"{path}: no run, bundle or record of this name; expected one that exists.")
    return bundles, files


def _is_nothing(path: str) -> bool:
    """Return whether a path without a suffix is no file, no folder, no record and no pattern."""
    # Imports the readers of records, which not every verb needs.
    from einthoven.data.formats.inputs import record_exists

    is_name = Path(path).suffix == "" and not glob.has_magic(path)
    return is_name and not Path(path).exists() and not record_exists(path)


def positive_seconds(text: str) -> float:
    """Return a positive number of seconds, for an option of argparse."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} found; expected a positive number of seconds")
    return seconds


def _is_bundle(path: str) -> bool:
    """Return whether a path names a bundle or a run. A run without a bundle is refused later, with advice.

    So is the folder of a cross-validation.
    """
    # Imports torch, which not every verb needs.
    from einthoven.predict import DESCRIPTION
    from einthoven.predict.model_folder import BUNDLE, CHECKPOINTS, FOLD, PACKAGED_BUNDLES

    if path.startswith(("runs:/", "models:/")):
        return True
    if path in PACKAGED_BUNDLES and not Path(path).exists():
        return True
    patterns = (DESCRIPTION, f"{BUNDLE}/{DESCRIPTION}", CHECKPOINTS, f"{FOLD}*/{CHECKPOINTS}")
    return any(any(Path(path).glob(pattern)) for pattern in patterns)
