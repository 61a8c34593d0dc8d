"""What a run shows on the terminal: progress while it works, a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from einthoven.contracts import Position

UNSENT = 3
"""Exit code of a command that has done its work, but a tracking store does not have all of it yet."""

# Names from files may contain what rich takes for markup: a text is printed as it is, and a style is given apart.
console = Console(highlight=False, markup=False, emoji=False)
errors = Console(highlight=False, markup=False, emoji=False, stderr=True)


def warn(sentence: str) -> None:
    """Say what a user must know although the command goes on."""
    errors.print(f"einthoven: warning: {sentence}", soft_wrap=True)


def warn_unsent(sentences: Iterable[str]) -> int:
    """Warn about each run that a tracking store does not have completely.

    Returns
    -------
    int
        Exit code of the command: `UNSENT` if there is such a run, else 0.
    """
    exit_code = 0
    for sentence in sentences:
        warn(sentence)
        exit_code = UNSENT
    return exit_code


def say(sentence: str) -> None:
    """Show a sentence as it is: names of files and commands may hold what rich takes for styles, such as [x]."""
    console.print(sentence, markup=False, emoji=False, soft_wrap=True)


def say_next(commands: Iterable[tuple[str, str]]) -> None:
    """Show commands, which can be pasted as they stand, and what each is for; an empty command is left out."""
    say("next:")
    for command, purpose in commands:
        if command:
            say(f"  {command}   {purpose}")


class Bar:
    """Progress of one piece of work, as ``bar(done, total)``; a stage whose total changes starts a new bar."""

    def __init__(self, progress: Progress, text: str) -> None:
        self._progress, self._text, self._total = progress, text, -1

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        if not self._progress.tasks:
            self._progress.add_task(self._text, total=total)
        self._progress.update(self._progress.tasks[0].id, completed=done, total=total)


@contextmanager
def bar(text: str, shown_on: Console = console) -> Iterator[Bar]:
    """Show a progress bar that disappears when the work is done."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=shown_on,
        transient=True,
    ) as progress:
        yield Bar(progress, text)


class TrainingDisplay:
    """Epoch, loss, learning rate, samples/s, time left and the monitored metric of a training in progress.

    On a terminal a live line; elsewhere (a log file, CI) one line an epoch. `monitor` is that metric and its label.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        latest: Mapping[str, float],
        monitor: tuple[str, str],
    ) -> None:
        self._epochs, self._steps, self._batch, self._latest = epochs, steps_per_epoch, batch_size, latest
        self._monitor, label = monitor
        self._label = f"val {label.removeprefix('macro ')}"
        self._start: tuple[float, int] | None = None
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]:>3}/" + str(epochs)),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn(
                f"loss {{task.fields[loss]}}  lr {{task.fields[lr]}}  {self._label} {{task.fields[metric]}}  "
                "{task.fields[rate]}"
            ),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=epochs * steps_per_epoch, **self._fields(0, 0))

    def __enter__(self) -> TrainingDisplay:
        """Start the display."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop it."""
        self._progress.stop()

    def step(self, position: Position) -> None:
        """Show a finished step."""
        if self._start is None:
            self._start = (time.monotonic(), position.step)
        self._progress.update(self._task, completed=position.step, **self._fields(position.epoch + 1, position.step))

    def epoch(self, position: Position) -> None:
        """Show a finished epoch."""
        if not console.is_terminal:
            fields = self._fields(position.epoch, position.step)
            console.print(
                f"epoch {position.epoch}/{self._epochs}  loss {fields['loss']}  lr {fields['lr']}  "
                f"{self._label} {fields['metric']}  {fields['rate']}"
            )

    def _fields(self, epoch: int, step: int) -> dict[str, Any]:
        def show(name: str, form: str) -> str:
            return format(self._latest[name], form) if name in self._latest else "–"

        seconds, first = (time.monotonic() - self._start[0], self._start[1]) if self._start else (0.0, 0)
        rate = f"{(step - first) * self._batch / seconds:,.0f} records/s" if seconds > 0 else ""
        return {
            "epoch": min(epoch, self._epochs),
            "loss": show("train/loss", ".4f"),
            "lr": show("watch/optim/lr", ".1e"),
            "metric": show(self._monitor, ".4f"),
            "rate": rate,
        }


def results_table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A small table: the first column names, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
