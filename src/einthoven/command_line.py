"""Commands that the program prints. A user can paste them into a shell, and Hydra reads each option as it is meant."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from einthoven import trust

# Hydra reads such a text without quotes as it is, unless the text is a value of another type.
_PLAIN = re.compile(r"([A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_/.+\-]*", re.ASCII)
_OTHER_TYPES = {"null", "true", "false", "nan", "inf"}

# Characters of Hydra's grammar in a value. A value with one of them is left to Hydra.
_GRAMMAR = set("'\"[]{}(),\\")
_READ_BY_HYDRA = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|:\s]*", re.ASCII)

# Verbs that build what a run or a bundle names.
_BUILDING = {"evaluate", "predict", "explain", "app", "export", "embed", "probe"}


def command(verb: str, *words: str, trusted: Sequence[str] = ()) -> str:
    """Return a command as it is typed in a shell, from words without quotes.

    A command that reads a run or a bundle gets ``--trust`` for the modules that this process needed, and for the
    addresses in `trusted`.
    """
    names = list(trusted)
    is_building = verb in _BUILDING or any(word.startswith(("resume=", "init_from=")) for word in words)
    if is_building:
        modules = {name.partition(".")[0] for name in trust.trusted() if "/" not in name}
        names = [*sorted(modules - {"einthoven", "torch"}), *names]
    flags = [word for name in names for word in ("--trust", name)]
    return shlex.join([_program(), verb, *flags, *words])


def train_command(*words: str, several: bool = False) -> str:
    """Return the command of a training, or of a sweep of `several` runs. It uses ``make`` if the user has typed it."""
    if not in_make():
        flags = ["-m"] if several else []
        return command("train", *flags, *words)
    # Make replaces $$ by $, and the shell joins the parts of the quoted text.
    arguments = shlex.join(words).replace("$", "$$").replace("'", "'\"'\"'")
    return f"make {'sweep' if several else 'train'} ARGS='{arguments}'"


def in_make() -> bool:
    """Return whether ``make`` has started this process, from the folder with the Makefile."""
    return "MAKELEVEL" in os.environ and Path("Makefile").exists()


def option(name: str, value: object) -> str:
    """Return ``name=value`` so that Hydra reads the value as a text, also if it looks like a number or a list."""
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_TYPES:
        return f"{name}={text}"
    return f"{name}={_quoted(text)}"


def readable(argument: str) -> str:
    """Quote the value of an option if it has a character that Hydra's grammar does not allow (ü, =, ~).

    The grammar gives such a value no meaning, so it can only be a text.
    """
    name, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or _READ_BY_HYDRA.fullmatch(value) or _GRAMMAR & set(value):
        return argument
    return f"{name}={_quoted(value)}"


def suggestion(argument: str) -> str:
    """Return how to type an option whose value Hydra cannot read: quoted for Hydra, and quoted again for the shell."""
    name, _, value = argument.partition("=")
    return shlex.quote(f"{name}={_quoted(value)}")


def _quoted(text: str) -> str:
    """Return a text in double quotes, so that Hydra and OmegaConf read the same text."""
    # A backslash before ${ makes it no interpolation. Backslashes before special characters are doubled.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'


def _program() -> str:
    """Return the name of the program, or its path if a shell does not find the name."""
    if shutil.which("einthoven"):
        return "einthoven"
    file = Path(sys.executable).with_name("einthoven")
    if not file.exists():
        return "einthoven"
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
