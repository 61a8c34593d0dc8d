"""Checks of what is read from the checkpoint of a run, which may come from a stranger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from einthoven.contracts import Position
from einthoven.errors import UserError


def check_notes(notes: Mapping[str, Any]) -> None:
    """Refuse notes that no run has written. The code that uses them relies on their types.

    Raises
    ------
    KeyError, TypeError, ValueError
        Names what is missing or wrong.
    """
    position = Position(**notes["position"])
    counts = {
        "epoch": position.epoch,
        "step": position.step,
        "best_epoch": position.best_epoch,
        "skipped": position.skipped,
        "recorder": notes["recorder"],
    }
    for name, value in counts.items():
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} is {value!r}")
    lists = [notes["classes"], notes.get("outputs", [])]
    texts = [notes["run_id"], notes["data"], *lists[0], *lists[1]]
    if not (all(isinstance(text, str) for text in texts) and all(isinstance(names, list) for names in lists)):
        raise TypeError("run_id, data, classes and outputs are not texts")
    if type(position.best) not in (int, float) or type(position.stopped) is not bool:
        raise TypeError(f"best is {position.best!r}, stopped is {position.stopped!r}")


def outputs_of(notes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the outputs of a network from the notes of its checkpoint.

    Earlier versions wrote only its classes, which were its outputs.
    """
    return tuple(notes.get("outputs", notes["classes"]))


@contextmanager
def checkpoint_errors(source: Path) -> Iterator[None]:
    """Turn an error that the content of a checkpoint causes into one sentence."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{source}: not a checkpoint of this run ({type(error).__name__}: {reason}); expected one that a run with "
            "this config.yaml has written."
        ) from error
