"""Commands that the program prints: they can be pasted into a shell, and Hydra reads the options as they are meant."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from einthoven import trust

# Text that Hydra reads as itself without quotes, and text that it reads as a value of another type.
_PLAIN = re.compile(r"([A-Za-z_/]|\.{1,2}/)[A-Za-z0-9_/.+\-]*", re.ASCII)
_OTHER_TYPES = {"null", "true", "false", "nan", "inf"}
# Characters of Hydra's own grammar in a value: what they mean is for Hydra to say.
_GRAMMAR = set("'\"[]{}(),\\")
_BUILDING = {"evaluate", "predict", "explain", "app", "export"}  # verbs that build what a run or a bundle names
_READ_BY_HYDRA = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|:\s]*", re.ASCII)


def command(verb: str, *words: str, trusted: Sequence[str] = ()) -> str:
    """A command as it is typed in a shell.

    A command that reads a run or a bundle gets ``--trust`` for the modules that this process needed as well.

    Parameters
    ----------
    verb : str
    *words : str
        Arguments, one each, as the program is to get them.
    trusted : sequence of str
        Addresses that it needs.
    """
    builds_what_is_read = verb in _BUILDING or any(word.startswith("resume=") for word in words)
    names = [*(trust.modules() if builds_what_is_read else ()), *trusted]
    flags = [flag for name in names for flag in ("--trust", name)]
    return shlex.join([_program(), verb, *flags, *words])


def train_command(*words: str, several: bool = False) -> str:
    """A training, or with `several` a sweep: with ``make`` where the user has typed ``make`` too.

    Parameters
    ----------
    *words : str
        Options, as Hydra takes them.
    several : bool
    """
    if not in_make():
        return command("train", *(["-m"] if several else []), *words)
    arguments = shlex.join(words).replace("$", "$$").replace("'", "'\"'\"'")
    return f"make {'sweep' if several else 'train'} ARGS='{arguments}'"


def in_make() -> bool:
    """Whether ``make`` has started this process, from the folder with the Makefile."""
    return "MAKELEVEL" in os.environ and Path("Makefile").exists()


def option(name: str, value: object) -> str:
    """``name=value`` as Hydra takes it, for a value that is a text whatever it looks like."""
    text = str(value)
    if _PLAIN.fullmatch(text) and text.lower() not in _OTHER_TYPES:
        return f"{name}={text}"
    return f"{name}={_quoted(text)}"


def readable(argument: str) -> str:
    """An option as it was typed, in quotes where Hydra's grammar has no place for a character of it (ü, =, ~).

    The grammar gives such a value no meaning, so that it can only mean itself.
    """
    name, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or _READ_BY_HYDRA.fullmatch(value) or _GRAMMAR & set(value):
        return argument
    return f"{name}={_quoted(value)}"


def suggestion(argument: str) -> str:
    """How to type an option whose value Hydra cannot read: in quotes, which the shell must not remove."""
    name, _, value = argument.partition("=")
    return shlex.quote(f"{name}={_quoted(value)}")


def _quoted(text: str) -> str:
    """Text in double quotes, of which Hydra and OmegaConf read the same text."""
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # no interpolation
    text = re.sub(r'(\\*)"', r'\1\1\\"', text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'


def _program() -> str:
    """The name of the program; its path from here, where a shell does not find the name."""
    if shutil.which("einthoven"):
        return "einthoven"
    file = Path(sys.executable).with_name("einthoven")
    if not file.exists():
        return "einthoven"
    here = Path.cwd()
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)
