"""`einthoven list`: what can be chosen, read from the first lines of each yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from einthoven.build import unknown_name
from einthoven.errors import UserError
from einthoven.terminal import option_plots
from einthoven.terminal.conf_folders import conf_folders, option_files
from einthoven.terminal.display import console

# Parts whose options are measured on real records; what has no such figure is marked experimental.
MEASURED = ("augment", "init", "loss", "model", "optimizer", "pca", "penalty", "schedule")
_BLOCKS, _WIDTH = "▁▂▃▄▅▆▇█", 32


@dataclass(frozen=True)
class Option:
    """What the leading comments of a yaml say: what it is, who it is from, and how it did on real records."""

    what: str
    source: str
    measured: str


def show_options(conf: Path, arguments: list[str]) -> None:
    """Print every option of every group, or of the groups named; ``--plot`` draws schedules or augmentations.

    Options of the user's own folders are shown too, where the search path names these, as for training.

    Raises
    ------
    UserError
        If a group or a folder is unknown, or there is nothing to plot.
    """
    folders, names = conf_folders(conf, arguments)
    groups = sorted({path.parent.name for folder in folders for path in folder.glob("*/*.yaml")})
    plot = "--plot" in names
    chosen = [group_named(name, groups) for name in names if name != "--plot"] or groups
    if plot and chosen not in (["schedule"], ["augment"]):
        raise UserError("--plot draws schedules or augmentations, as in: einthoven list schedules --plot.")
    curves = plot and chosen == ["schedule"]
    for group in chosen:
        table = Table(title=group, title_justify="left", title_style="bold", box=None, show_header=False)
        table.add_column(min_width=20, no_wrap=True)
        if curves:
            table.add_column(no_wrap=True, min_width=_WIDTH)
        for name, path in sorted(option_files(folders, group).items()):
            curve = [sparkline(option_plots.multipliers(folders, name))] if curves else []
            table.add_row(name, *curve, Text.from_markup(_described(path, group, conf)))
        console.print(table)
    if plot:
        (option_plots.plot_schedules if curves else option_plots.plot_augmentations)(folders)


def _described(path: Path, group: str, conf: Path) -> str:
    """What an option is, and in smaller print where it is from and how it did."""
    option = describe(path)
    notes = [f"[dim]{escape(option.source)}[/dim]"] if option.source else []
    if not path.is_relative_to(conf):
        notes.append(f"[dim]{escape(str(path))}[/dim]")
    elif group in MEASURED and path.stem not in ("none", "default"):
        notes.append(f"[dim]{escape(option.measured)}[/dim]" if option.measured else "[yellow]experimental[/]")
    return "\n".join([escape(option.what), *[" · ".join(notes)] * bool(notes)])


def describe(path: Path) -> Option:
    """The leading comments of a yaml: what the option is, ``Source: …`` and ``Measured: …``."""
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# ").strip())

    def after(mark: str) -> str:
        return next((line.removeprefix(mark).strip() for line in lines if line.startswith(mark)), "")

    what = next((line for line in lines if not line.startswith(("Source:", "Measured:"))), "")
    return Option(what, after("Source:"), after("Measured:"))


def sparkline(values: list[float], width: int = _WIDTH) -> str:
    """A curve from 0 to 1 as a row of blocks."""
    means = [float(part.mean()) for part in np.array_split(np.asarray(values), width)]
    return "".join(_BLOCKS[min(int(mean * len(_BLOCKS)), len(_BLOCKS) - 1)] for mean in means)


def group_named(name: str, groups: list[str]) -> str:
    """The group by its name or its plural: optimizers, losses, augmentations."""
    for group in groups:
        if name == group or (name.startswith(group) and name.removeprefix(group) in ("s", "es", "ations")):
            return group
    raise UserError(unknown_name(name, name, groups))
