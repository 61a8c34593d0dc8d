"""Hydra looks for plugins in this package. It finds the sweeper of ``hydra/sweeper=tpe`` here."""

from __future__ import annotations

from einthoven.sweeps.search import Search


class TPESweeper(Search):
    """`Search` under a name in the only package from which Hydra takes sweepers."""
