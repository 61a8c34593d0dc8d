from __future__ import annotations

import io
import math
import time
from contextlib import suppress

import pytest
from rich.console import Console

from einthoven.contracts import Position
from einthoven.terminal import display
from einthoven.terminal.display import TrainingDisplay, after_first_line, bar, results_table, say, say_first, say_next


def test_progress_leaves_no_line_in_a_file() -> None:
    file = io.StringIO()
    with bar("working", Console(file=file)) as progress:
        progress(1, 2)
    assert file.getvalue() == ""


def test_sentences_wait_for_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    with after_first_line():
        say("a note")
        with after_first_line():
            say("another")
        assert capsys.readouterr().out == ""
        say_first("what is trained")
        say("and so on")
        assert capsys.readouterr().out.splitlines() == ["what is trained", "a note", "another", "and so on"]
    # A run that fails before its first line shows its notes.
    with suppress(ValueError), after_first_line():
        say("a note")
        raise ValueError
    assert capsys.readouterr().out == "a note\n"


def test_commands_stand_alone_on_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    say_next([("einthoven ui", "look"), ("", "nothing"), ("einthoven app 'a b'", "open a page")])
    assert capsys.readouterr().out.splitlines() == [
        "next:",
        "  look:",
        "    einthoven ui",
        "  open a page:",
        "    einthoven app 'a b'",
    ]


def test_control_characters_of_a_name_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\udce9é.csv"
    say(name)
    display.console.print(results_table("Files", ["file"], [[name]]))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == r"a\x1b[2J\udce9é.csv"
    assert all(line.isprintable() for line in lines) and any(r"a\x1b[2J" in line for line in lines[1:])


def test_colours_reach_the_terminal() -> None:
    file = io.StringIO()
    display._Messages(file=file, force_terminal=True, color_system="standard").print("a", style="bold")
    assert file.getvalue() == "\x1b[1ma\x1b[0m\n"


def test_the_loss_of_an_epoch_is_its_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(display, "console", Console(file=file, width=200))
    with TrainingDisplay(2, 4, 32, {"train/loss": 9.0}, ("val/macro_auroc", "macro AUROC")) as shown:
        # The second step of the first epoch was skipped. The losses come in two parts.
        shown.add_losses([(1, 4.0), (2, math.nan)])
        shown.add_losses([(3, 3.0), (4, 2.0)])
        shown.epoch(Position(epoch=1, step=4))
        shown.add_losses([(5, 1.0), (6, 2.0)])
        shown.epoch(Position(epoch=2, step=8))
    assert [line.split("loss ")[1].split()[0] for line in file.getvalue().splitlines()] == ["3.0000", "1.5000"]


def test_a_terminal_asks_for_losses_once_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for is_terminal in (True, False):
        monkeypatch.setattr(display, "console", Console(file=io.StringIO(), force_interactive=is_terminal))
        shown = TrainingDisplay(1, 9, 32, {}, ("val/macro_auroc", "macro AUROC"))
        assert not shown.wants_losses()
        now[0] += 1.5
        assert shown.wants_losses() is is_terminal
        shown.add_losses([(1, 0.5)])
        assert not shown.wants_losses()


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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("optimizer=schedule_free_adamw", ["optimizer=schedule_free_adamw"]),
        ("model=conv_attention optimizer=muon", ["model=conv_attention", "optimizer=muon"]),
        ("init_from=outputs/2026-12-01/17-44-29-sweep", ["init_from=outputs/2026-12-01/17-", "44-29-sweep"]),
        ("右脚ブロック", ["右脚ブロック"]),
    ],
)
def test_long_names_of_a_table_are_broken_at_blanks_and_marks(
    monkeypatch: pytest.MonkeyPatch, name: str, shown: list[str]
) -> None:
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(display, "console", console)
    scores = ["val/macro_auroc (mean ± sd)", "test/macro_auroc (mean ± sd)"]
    row = [name, "3", "0.9100 ± 0.0012", "0.9120 ± 0.0090"]
    console.print(results_table("sweep", ["configuration", "runs", *scores], [row]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split("│")[1].strip() for line in lines if line.startswith("│")] == shown
    assert "0.9100 ± 0.0012 │" in lines[5] and "0.9120 ± 0.0090 │" in lines[5]
