"""What a command shows on the terminal: sentences, progress and tables."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from einthoven.errors import printable_text

if TYPE_CHECKING:
    from einthoven.contracts import Position

_FRESH = 1.0
"""The loss on a terminal is at most so many seconds old."""

UNSENT = 3
"""Exit code of a command that has done its work, but a tracking store does not have all of it yet."""


class _Messages(Console):
    """A console for messages. The command goes on if nobody reads them any more, as behind `einthoven train | head`."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Write control characters in names and messages as escapes, so that they do not change what is shown."""
        for segment in super().render(renderable, options):
            is_command_to_terminal = segment.control is not None
            yield segment if is_command_to_terminal else Segment(printable_text(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Drop the other messages. A console of rich would end the process."""
        drop_output(self.file)


def drop_output(stream: IO[str]) -> None:
    """Let a stream lead to a device that accepts everything, because its file takes nothing any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


# Names from files may contain what rich takes for markup, such as [x]. So texts are printed as they are.
console = _Messages(highlight=False, markup=False, emoji=False)
errors = _Messages(highlight=False, markup=False, emoji=False, stderr=True)


def warn(sentence: str) -> None:
    """Print a warning to the error stream. The command goes on."""
    errors.print(f"einthoven: warning: {sentence}", soft_wrap=True)


def warn_unsent(sentences: Iterable[str]) -> int:
    """Warn about each run that a tracking store does not have completely. Return `UNSENT` if there is one, else 0."""
    exit_code = 0
    for sentence in sentences:
        warn(sentence)
        exit_code = UNSENT
    return exit_code


# Sentences that wait for the first line of a run; None if nothing waits.
_waiting: list[str] | None = None


def say(sentence: str) -> None:
    """Print a sentence without line breaks, so that names of files and commands can be copied."""
    if _waiting is None:
        console.print(sentence, soft_wrap=True)
    else:
        _waiting.append(sentence)


@contextmanager
def after_first_line() -> Iterator[None]:
    """Let the sentences of `say` wait in this block, until `say_first` is called or the block ends.

    What a run trains is known when it has been assembled. Until then, there are notes about its data and options.
    """
    global _waiting
    if _waiting is not None:
        # An outer block waits already.
        yield
        return
    _waiting = []
    try:
        yield
    finally:
        _say_waiting()


def say_first(sentence: str) -> None:
    """Print a sentence, and behind it those that wait for it."""
    console.print(sentence, soft_wrap=True)
    _say_waiting()


def _say_waiting() -> None:
    """Print the sentences that wait, and let no further ones wait."""
    global _waiting
    sentences = _waiting or []
    _waiting = None
    for sentence in sentences:
        say(sentence)


def say_if_any(sentence: str) -> None:
    """Print a sentence as `say` does, unless it is empty."""
    if sentence:
        say(sentence)


def say_next(commands: Iterable[tuple[str, str]]) -> None:
    """Print commands to continue with, each on its own line below its purpose. An empty command is left out."""
    say("next:")
    for command, purpose in commands:
        if command:
            say(f"  {purpose}:")
            say(f"    {command}")


@contextmanager
def bar(text: str, target: Console = console) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a console until the block ends.

    Yields
    ------
    callable
        (done, total) -> None. Shows that `done` of `total` pieces of work are finished.
    """
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=target,
        transient=True,
        # In a file, the display would be an empty line.
        disable=not target.is_interactive,
    ) as progress:
        # The bar appears when the total is known.
        def show(done: int, total: int) -> None:
            if not progress.tasks:
                progress.add_task(text, total=total)
            progress.update(progress.tasks[0].id, completed=done, total=total)

        yield show


class EpochMean:
    """The mean loss over the steps of an epoch, as far as they are known."""

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._epoch = -1
        self._sum = 0.0
        self._count = 0

    def add(self, step: int, value: float) -> None:
        """Add the loss of a step, counted from 1. The first step of another epoch begins a new mean."""
        epoch = (step - 1) // self._steps_per_epoch
        if epoch != self._epoch:
            self._epoch = epoch
            self._sum = 0.0
            self._count = 0
        # A step that was skipped has no finite loss.
        if math.isfinite(value):
            self._sum += value
            self._count += 1

    @property
    def value(self) -> float | None:
        """The mean; None before the first loss."""
        return self._sum / self._count if self._count else None


class TrainingDisplay:
    """Progress of a training: epoch, loss, learning rate, monitored metric, records per second and time left.

    The loss is the mean over the steps of the epoch. A terminal shows one line that changes. A log file gets one line
    per epoch.

    Parameters
    ----------
    latest : mapping of str to float
        The last value of each metric. The recorder changes this mapping during the training.
    monitor : (str, str)
        The monitored metric and its label.
    """

    def __init__(
        self,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        latest: Mapping[str, float],
        monitor: tuple[str, str],
    ) -> None:
        self._epochs = epochs
        self._batch_size = batch_size
        self._latest = latest
        self._monitor, label = monitor
        self._label = f"val {label.removeprefix('macro ')}"
        self._loss = EpochMean(steps_per_epoch)
        self._last_losses = time.monotonic()
        # Time and step of the first call of `step`. A resumed run does not start at step 0.
        self._first: tuple[float, int] | None = None
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
            # In a file, the display would be an empty line.
            disable=not console.is_interactive,
        )
        self._task = self._progress.add_task("", total=epochs * steps_per_epoch, **self._fields(0, 0))

    def __enter__(self) -> TrainingDisplay:
        """Show the display."""
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the display."""
        self._progress.stop()

    def add_losses(self, losses: Iterable[tuple[int, float]]) -> None:
        """Take the losses of some steps, each with the number of the step. `step` and `epoch` show their mean."""
        for step, value in losses:
            self._loss.add(step, value)
        self._last_losses = time.monotonic()

    def wants_losses(self) -> bool:
        """Return whether somebody watches, and the last losses came more than `_FRESH` seconds ago."""
        return console.is_interactive and time.monotonic() - self._last_losses > _FRESH

    def step(self, position: Position) -> None:
        """Show a finished step."""
        if self._first is None:
            self._first = (time.monotonic(), position.step)
        if self._progress.disable:
            return
        self._progress.update(self._task, completed=position.step, **self._fields(position.epoch + 1, position.step))

    def epoch(self, position: Position) -> None:
        """Show a finished epoch."""
        if not console.is_terminal:
            fields = self._fields(position.epoch, position.step)
            line = (
                f"epoch {position.epoch}/{self._epochs}  loss {fields['loss']}  lr {fields['lr']}  "
                f"{self._label} {fields['metric']}  {fields['rate']}"
            )
            console.print(line.rstrip(), soft_wrap=True)

    def _fields(self, epoch: int, step: int) -> dict[str, Any]:
        """Return the texts of the display."""

        def latest(name: str, form: str) -> str:
            return format(self._latest[name], form) if name in self._latest else "–"

        rate = ""
        if self._first is not None:
            first_time, first_step = self._first
            seconds = time.monotonic() - first_time
            # The first step of a display says nothing about the time of a step.
            if seconds > 0 and step > first_step:
                rate = f"{(step - first_step) * self._batch_size / seconds:,.0f} records/s"
        loss = self._loss.value
        return {
            "epoch": min(epoch, self._epochs),
            "loss": "–" if loss is None else f"{loss:.4f}",
            "lr": latest("watch/optim/lr", ".1e"),
            "metric": latest(self._monitor, ".4f"),
            "rate": rate,
        }


def results_table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """Return a table with names in the first column and numbers in the others.

    A name that is too long for the terminal continues in the next line behind a mark such as ``_``, if there is room.
    """
    numbers_width = sum(max(map(_longest_word, cells)) for cells in list(zip(columns, *rows, strict=True))[1:])
    frame_width = 3 * len(columns) + 1
    room = console.width - numbers_width - frame_width
    names = [broken_name(row[0], room) for row in rows]
    has_room = all(cell_len(line) <= room for name in (columns[0], *names) for line in name.split("\n"))

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(columns[0], overflow="fold", no_wrap=has_room)
    for name in columns[1:]:
        table.add_column(name, justify="right", overflow="fold")
    for name, row in zip(names if has_room else [row[0] for row in rows], rows, strict=True):
        table.add_row(name, *row[1:])
    return table


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def broken_name(name: str, width: int) -> str:
    """Return a name in lines. One that is wider than `width` ends at a blank, or in a long word behind a mark."""
    lines = [""]
    for word in re.split(r"(?<=\s)", name):
        is_long = cell_len(word.rstrip()) > width
        for piece in re.split(r"(?<=[_/=.-])", word) if is_long else [word]:
            if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)
