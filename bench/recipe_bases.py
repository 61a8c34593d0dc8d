"""The networks that recipes start from: one for each group of held-out folds, as `make_bases.py` makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from recipe_results import Held

from einthoven.errors import UserError
from einthoven.predict.bundle import DESCRIPTION
from einthoven.runs.run import Run

BASES, HELD = "{bases}", "{held}"
"""Places in the options of a recipe: the folder of the bases, and the held-out folds."""

START = "init_from="


def names_base(overrides: Sequence[str]) -> bool:
    """Return whether a recipe starts from a network that was made for the held-out folds."""
    return any(BASES in override for override in overrides)


def with_places(bases: Path | None, overrides: Sequence[str], held: Held) -> list[str]:
    """Return the options of a recipe with the folder of the bases and the held-out folds in their places.

    A recipe that names no start has fresh weights: the generator of the usual base was fitted to signals of the folds
    that are held out here.

    Raises
    ------
    UserError
        If the recipe needs a base, and no folder of bases is given.
    """
    if not any(override.startswith(START) for override in overrides):
        return [f"{START}null", *overrides]
    if names_base(overrides) and bases is None:
        raise UserError(
            f"{' '.join(overrides)}: starts from a network for each group of held-out folds; expected --bases FOLDER, "
            "which bench/make_bases.py fills."
        )
    return [override.replace(BASES, str(bases)).replace(HELD, held.name) for override in overrides]


def has_base(bases: Path | None, overrides: Sequence[str], held: Held) -> bool:
    """Return whether the bundle that a recipe starts from is there. A run writes it at its end."""
    (start,) = (option for option in with_places(bases, overrides, held) if option.startswith(START))
    return (Path(start.removeprefix(START)) / DESCRIPTION).is_file()


def refuse_known(run: Run, held: Held) -> None:
    """Refuse a base whose generator was fitted to signals of the held-out folds.

    Raises
    ------
    UserError
    """
    assert run.base is not None and run.base.ancestry is not None
    first_seconds = run.data.first_seconds("test")
    known = int(run.base.ancestry.in_generator(first_seconds).sum())
    if known:
        raise UserError(
            f"{run.base.source}: its generator was fitted to {known} of the records of the folds {held.name}, which it "
            "would be judged on; expected a base of bench/make_bases.py for these folds."
        )
