"""`einthoven list`: what can be chosen, read from the first line of each yaml."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from einthoven.build import unknown_name
from einthoven.commands.terminal import console
from einthoven.errors import UserError


def show_options(conf: Path, arguments: list[str]) -> None:
    """Print every option of every group, or of the groups named."""
    groups = sorted(folder.name for folder in conf.iterdir() if folder.is_dir() and any(folder.glob("*.yaml")))
    for name in arguments:
        if name not in groups:
            raise UserError(unknown_name(name, name, groups))
    for group in arguments or groups:
        table = Table(title=group, title_justify="left", title_style="bold", box=None, show_header=False)
        table.add_column(min_width=20, no_wrap=True)
        for path in sorted((conf / group).glob("*.yaml")):
            table.add_row(path.stem, escape(describe(path)))
        console.print(table)


def describe(path: Path) -> str:
    """The first comment of a yaml, which says what the option is."""
    lines = (line.lstrip("# ").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    return next((line for line in lines if not line.startswith("@package")), "")
