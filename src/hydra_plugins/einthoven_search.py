"""Where Hydra looks for plugins: the sweeper of ``hydra/sweeper=tpe``."""

from __future__ import annotations

from einthoven.sweeps.search import Search


class TPESweeper(Search):
    """`Search`, under a name in the one package that Hydra takes sweepers from."""
