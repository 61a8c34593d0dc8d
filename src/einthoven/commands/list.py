"""`einthoven list`: show what can be chosen, read from the first lines of each yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from einthoven.build import unknown_name
from einthoven.errors import UserError
from einthoven.files import seen_from_here
from einthoven.terminal.conf_folders import conf_folder, conf_folders, option_files
from einthoven.terminal.display import console, say
from einthoven.terminal.parser import check_flags

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 32
_GAP = "  "


@dataclass(frozen=True)
class Option:
    """What a yaml states about its option: the leading comments, and the lines below them."""

    description: str
    """The first comment."""
    source: str
    """What follows ``Source:``; empty without such a comment."""
    values: tuple[str, ...]
    """The lines of the yaml below the comments."""


def main(arguments: list[str]) -> None:
    """Print the options of all parts or of some, one line each, or all about some options.

    The arguments are parts, options of the part before them, ``--plot`` for schedules or augmentations, and folders
    with the user's own options, as for ``einthoven train``.
    """
    conf = conf_folder()
    folders, others = conf_folders(conf, arguments)
    check_flags("list", others, ["--plot", "--config-dir"])
    known_groups = sorted({path.parent.name for folder in folders for path in folder.glob("*/*.yaml")})
    words = [word for word in others if word != "--plot"]
    chosen = _read_words(words, known_groups, folders) or {name: [] for name in known_groups}
    is_plotted = "--plot" in others
    if is_plotted and chosen not in ({"schedule": []}, {"augment": []}):
        raise UserError("--plot draws schedules or augmentations, as in: einthoven list schedules --plot.")

    for group, names in chosen.items():
        files = option_files(folders, group)
        if names:
            for name in names:
                _print_option(group, name, files[name])
        else:
            curves = _curves(folders, files) if is_plotted and group == "schedule" else {}
            _print_group(group, files, conf, curves)
    if not any(chosen.values()):
        say("einthoven list PART OPTION shows the source and the values of one option.")

    if is_plotted:
        from einthoven.terminal.option_plots import plot_augmentations, plot_schedules

        if "schedule" in chosen:
            plot_schedules(folders)
        else:
            plot_augmentations(folders)


def _read_words(words: Sequence[str], known_groups: list[str], folders: Sequence[Path]) -> dict[str, list[str]]:
    """Return the groups that are named, each with the options that are named behind it."""
    chosen: dict[str, list[str]] = {}
    group = ""
    for word in words:
        options = option_files(folders, group) if group else {}
        # A word behind a group is an option of it, unless it is another group.
        if word in options and word not in known_groups:
            chosen[group].append(word)
            continue
        group = _group_named(word, known_groups, list(options))
        chosen.setdefault(group, [])
    return chosen


def _print_group(group: str, files: dict[str, Path], conf: Path, curves: dict[str, str]) -> None:
    """Print one line for each option. In a terminal, a line that is too long ends with ``…``."""
    console.print(Text(group, style="bold"))
    width = max((len(name) for name in files), default=0)
    for name, path in sorted(files.items()):
        cells = [name.ljust(width), *([curves[name]] if curves else []), describe(path).description]
        if not path.is_relative_to(conf):
            cells.append(f"({path})")
        line = Text(f" {_GAP.join(cells)}")
        if console.is_terminal:
            line.truncate(console.width, overflow="ellipsis")
        console.print(line, soft_wrap=True)
    console.print()


def _print_option(group: str, name: str, path: Path) -> None:
    """Print all that the yaml of an option states."""
    option = describe(path)
    console.print(Text(f"{group}={name}", style="bold"), soft_wrap=True)
    say(f"  {option.description}")
    if option.source:
        say(f"  Source: {option.source}")
    say(f"  File: {seen_from_here(path)}")
    for line in option.values:
        say(f"    {line}")
    console.print()


def describe(path: Path) -> Option:
    """Read a yaml: the first comment is the description, ``Source: …`` the source, and the values follow."""
    description = ""
    source = ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable yaml ({error}).") from None
    lines = text.splitlines()
    first_value = len(lines)
    for number, line in enumerate(lines):
        if not line.startswith("#"):
            first_value = number
            break
        comment = line.lstrip("# ").strip()
        if line.startswith("# @package"):
            continue
        if comment.startswith("Source:"):
            source = source or comment.removeprefix("Source:").strip()
        else:
            description = description or comment
    # `_partial_` says only how the function is called.
    values = [line.rstrip() for line in lines[first_value:] if line.strip() and not line.startswith("_partial_:")]
    return Option(description, source, tuple(values))


def _curves(folders: Sequence[Path], files: dict[str, Path]) -> dict[str, str]:
    """Return the curve of each schedule as a row of blocks."""
    from einthoven.terminal.option_plots import multipliers

    return {name: _sparkline(multipliers(folders, name)) for name in files}


def _sparkline(values: list[float], width: int = _CURVE_WIDTH) -> str:
    """Draw a curve with values from 0 to 1 as a row of blocks."""
    import numpy as np

    blocks = []
    for part in np.array_split(np.asarray(values), width):
        height = int(float(part.mean()) * len(_BLOCKS))
        blocks.append(_BLOCKS[min(height, len(_BLOCKS) - 1)])
    return "".join(blocks)


def _group_named(name: str, groups: list[str], options: Sequence[str] = ()) -> str:
    """Return the group with this name or this plural, such as optimizers, losses or augmentations.

    `options` are other words that could have been meant.
    """
    for group in groups:
        if name in (group, f"{group}s", f"{group}es", f"{group}ations"):
            return group
    raise UserError(unknown_name(name, name, [*groups, *options]))
