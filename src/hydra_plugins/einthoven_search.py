"""Hydra looks for plugins in this package. It finds the sweepers of einthoven here."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from einthoven.sweeps.search import Search


class GridSweeper(BasicSweeper):
    """All combinations of the given values, in their order."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Accept the runs. Hydra would compose each of them twice, once before the first run and once to start it.

        `einthoven.sweeps.space.varied` has composed every chosen part already.
        """


class TPESweeper(Search):
    """`Search` under a name in the only package from which Hydra takes sweepers."""
