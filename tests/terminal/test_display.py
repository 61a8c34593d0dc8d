from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from einthoven.contracts import Position
from einthoven.terminal import display
from einthoven.terminal.display import TrainingDisplay, bar


def test_progress_leaves_no_line_in_a_file() -> None:
    file = io.StringIO()
    with bar("working", Console(file=file)) as progress:
        progress(1, 2)
    assert file.getvalue() == ""


def test_the_first_step_of_a_display_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=file, width=200))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    # A resumed run has one step of its epoch left.
    with TrainingDisplay(3, 4, 32, {}, ("val/macro_auroc", "macro AUROC")) as shown:
        shown.step(Position(epoch=0, step=4))
        now[0] += 2.0
        shown.epoch(Position(epoch=1, step=4))
        shown.step(Position(epoch=1, step=5))
        shown.epoch(Position(epoch=2, step=8))
    first, second = file.getvalue().splitlines()
    assert first.startswith("epoch 1/3") and "records/s" not in first
    assert second.startswith("epoch 2/3") and "64 records/s" in second
