"""`einthoven list`: show what can be chosen, read from the first lines of each yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from einthoven.build import unknown_name
from einthoven.errors import UserError
from einthoven.terminal.conf_folders import conf_folder, conf_folders, option_files
from einthoven.terminal.display import console
from einthoven.terminal.parser import check_flags

_BLOCKS = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH = 32


@dataclass(frozen=True)
class Option:
    """What the leading comments of a yaml state: what the option is, and its source."""

    description: str
    source: str


def main(arguments: list[str]) -> None:
    """Print the options of all groups, or of some; ``--plot`` draws schedules or augmentations.

    Parameters
    ----------
    arguments : list of str
        Groups, ``--plot``, and folders with the user's own options, as for ``einthoven train``.

    Raises
    ------
    UserError
        If a group or a folder is unknown, or a group cannot be drawn.
    """
    conf = conf_folder()
    folders, others = conf_folders(conf, arguments)
    check_flags("list", others, ["--plot", "--config-dir"])
    known_groups = sorted({path.parent.name for folder in folders for path in folder.glob("*/*.yaml")})
    groups = [_group_named(name, known_groups) for name in others if name != "--plot"] or known_groups
    is_plotted = "--plot" in others
    if is_plotted and groups not in (["schedule"], ["augment"]):
        raise UserError("--plot draws schedules or augmentations, as in: einthoven list schedules --plot.")
    has_curves = is_plotted and groups == ["schedule"]
    if is_plotted:
        from einthoven.terminal.option_plots import multipliers, plot_augmentations, plot_schedules

    for group in groups:
        table = Table(title=group, title_justify="left", title_style="bold", box=None, show_header=False)
        table.add_column(min_width=20, no_wrap=True)
        if has_curves:
            table.add_column(no_wrap=True, min_width=_CURVE_WIDTH)
        for name, path in sorted(option_files(folders, group).items()):
            curve = [_sparkline(multipliers(folders, name))] if has_curves else []
            table.add_row(name, *curve, Text.from_markup(_description(path, conf)))
        console.print(table)

    if has_curves:
        plot_schedules(folders)
    elif is_plotted:
        plot_augmentations(folders)


def _description(path: Path, conf: Path) -> str:
    """Return what an option is, and on a second line its source and, if the user has added it, its file."""
    option = describe(path)
    notes = []
    if option.source:
        notes.append(f"[dim]{escape(option.source)}[/dim]")
    if not path.is_relative_to(conf):
        notes.append(f"[dim]{escape(str(path))}[/dim]")
    if not notes:
        return escape(option.description)
    return f"{escape(option.description)}\n{' · '.join(notes)}"


def describe(path: Path) -> Option:
    """Read the leading comments of a yaml: a description, and ``Source: …``."""
    description = ""
    source = ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable yaml ({error}).") from None
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment = line.lstrip("# ").strip()
        if line.startswith("# @package"):
            continue
        if comment.startswith("Source:"):
            source = source or comment.removeprefix("Source:").strip()
        else:
            description = description or comment
    return Option(description, source)


def _sparkline(values: list[float], width: int = _CURVE_WIDTH) -> str:
    """Draw a curve with values from 0 to 1 as a row of blocks."""
    import numpy as np

    blocks = []
    for part in np.array_split(np.asarray(values), width):
        height = int(float(part.mean()) * len(_BLOCKS))
        blocks.append(_BLOCKS[min(height, len(_BLOCKS) - 1)])
    return "".join(blocks)


def _group_named(name: str, groups: list[str]) -> str:
    """Return the group with this name or this plural, such as optimizers, losses or augmentations."""
    for group in groups:
        if name in (group, f"{group}s", f"{group}es", f"{group}ations"):
            return group
    raise UserError(unknown_name(name, name, groups))
