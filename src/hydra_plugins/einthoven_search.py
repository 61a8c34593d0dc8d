"""Hydra looks for plugins in this package, and takes sweepers from no other one. It finds those of einthoven here."""

from __future__ import annotations

from einthoven.sweeps.grid import Grid
from einthoven.sweeps.search import Search


class GridSweeper(Grid):
    """`Grid` under a name in this package."""


class TPESweeper(Search):
    """`Search` under a name in this package."""
