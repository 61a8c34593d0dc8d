"""The spool: a file of entries that are on their way to the tracking store.

An entry is one line of JSON. The training appends entries and never waits. A thread sends the lines in order, and notes
how many bytes it has sent. So a store that is slow, down or restarted costs the training nothing, and a killed run
loses nothing that it had written: whoever opens the file again (the resumed run or `einthoven sync`) continues.
An entry is sent at least once. `deliver` makes sure that it arrives once: it is told which entries may be repetitions.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from einthoven.atomic import write_text

Entry = Mapping[str, Any]
Deliver = Callable[[Sequence[Entry], bool], None]

_DELIVERY_BYTES = 1 << 18
"""Bytes that one delivery takes at most."""

_PAUSE = 1.0
"""Seconds between two deliveries, so that many small deliveries become few large ones."""

_LONGEST_WAIT = 30.0
"""Seconds between two attempts while the store does not answer."""

_LAST_WAIT = 1.0
"""The same, while the end of the run waits."""

_LAST_DELIVERY = 10.0
"""Seconds that the end of the run waits for the delivery that is on its way."""

_NUMBER_CHARACTERS = 32
"""Characters of a number in a file at most."""


class RefusedError(Exception):
    """The store has taken what it can, and will never take the rest.

    Parameters
    ----------
    refused : sequence of (str, entry)
        The reason, and the entry or part of an entry that was refused.
    """

    def __init__(self, refused: Sequence[tuple[str, Entry]]) -> None:
        super().__init__(refused[0][0])
        self.refused = refused


class Spool:
    """A file of entries, and the thread that delivers them.

    Parameters
    ----------
    path : Path
        The file ``….jsonl``. The file ``….sent`` beside it contains the number of bytes that have been delivered. The
        file ``….refused`` contains the entries that the store did not take, with the reason.
    deliver : callable
        (entries, is_doubtful) -> None. `is_doubtful` means that some of the entries may have arrived already. Raises
        `RefusedError` if some entries can never be delivered and all others have been. Raises any other error if the
        entries can be delivered later.

    Attributes
    ----------
    error : Exception or None
        Error of the last attempt.
    refused : list of str
        One sentence for each refusal.
    """

    def __init__(self, path: Path, deliver: Deliver) -> None:
        self.error: Exception | None = None
        self.refused: list[str] = []
        self._path = path
        self._deliver = deliver
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        # A killed run can leave half of a line.
        self._size = _size_of_whole_lines(path)
        self._file.truncate(self._size)
        self._sent = min(number_in(path.with_suffix(".sent")), self._size)
        self._is_doubtful = self._sent < self._size
        # The condition protects all attributes that the thread changes.
        self._changed = threading.Condition()
        self._is_ending = False
        self._is_stopped = False
        # Entries before this position are delivered without a pause.
        self._hurried = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread that delivers."""
        self._thread = threading.Thread(target=self._deliver_all, name=f"tracking-{self._path.stem}", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Append an entry.

        Raises an `OSError` if the disk is full. The file does not change in that case.
        """
        line = json.dumps(entry).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError:
            # The buffer still contains the line. It must not be written later, behind the known end of the file.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = self._path.open("ab")
            self._file.truncate(self._size)
            raise
        with self._changed:
            self._size += len(line)
            self._changed.notify_all()

    def entries(self, *, unsent: bool = False) -> Iterator[dict[str, Any]]:
        """Yield all entries, or only those that have not been delivered."""
        with self._path.open("rb") as file:
            file.seek(self._sent if unsent else 0)
            for line in file:
                yield json.loads(line)

    @property
    def size(self) -> int:
        """Bytes of all entries. The number is different in every state of the spool."""
        return self._size

    @property
    def waiting(self) -> bool:
        """Whether some entry has not been delivered."""
        return self._sent < self._size

    def hurry(self) -> None:
        """Deliver the entries that are here now without a pause. This does not wait for them."""
        with self._changed:
            self._hurried = self._size
            self._changed.notify_all()

    def drain(self, patience: float, say_waiting: Callable[[Exception], None] | None = None) -> bool:
        """Wait until everything is delivered, or until nothing could be delivered for `patience` seconds.

        Return whether everything has been delivered. `say_waiting` is called once with the error of the last attempt,
        if the store does not take the entries.
        """
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()
            last_progress = time.monotonic()
            sent_before = self._sent
            while self.waiting and self._thread is not None:
                self._changed.wait(0.5)
                if self._sent > sent_before:
                    last_progress = time.monotonic()
                    sent_before = self._sent
                if self.error is None:
                    continue
                if time.monotonic() - last_progress > patience:
                    break
                if say_waiting is not None:
                    say_waiting(self.error)
                    say_waiting = None
            self._is_ending = False
        return not self.waiting

    def close(self) -> bool:
        """Stop delivering. Undelivered entries stay in the file.

        Return whether the thread has ended. If not, it still waits for an answer of the store.
        """
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        self._file.close()
        if self._thread is None:
            return True
        self._thread.join(_LAST_DELIVERY if self.error is None else _LAST_WAIT)
        return not self._thread.is_alive()

    def _deliver_all(self) -> None:
        """Deliver entries until the spool is closed."""
        failures = 0
        while self._wait(failures):
            try:
                entries, end = self._next_entries()
                self._deliver(entries, self._is_doubtful)
            except RefusedError as error:
                self._write_refused(error.refused)
            except Exception as error:
                # A run does not stop because of an error of tracking, whatever the error is.
                failures += 1
                self._is_doubtful = True
                with self._changed:
                    self.error = error
                    self._changed.notify_all()
                continue
            failures = 0
            self._note_delivered(end)

    def _wait(self, failures: int) -> bool:
        """Wait until there is something to send and it is time to send it. Return False if the spool is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self.waiting)
            pause = _PAUSE if failures == 0 else min(2.0 ** (failures - 1), _LONGEST_WAIT)
            until = time.monotonic() + pause
            while not self._is_stopped:
                if failures == 0 and self._sent < self._hurried:
                    break
                if self._is_ending:
                    until = min(until, time.monotonic() + _LAST_WAIT) if failures else 0.0
                seconds_left = until - time.monotonic()
                if seconds_left <= 0:
                    break
                self._changed.wait(seconds_left)
            return not self._is_stopped

    def _next_entries(self) -> tuple[list[Entry], int]:
        """Return the next entries to deliver, and the position in the file behind them."""
        with self._path.open("rb") as file:
            file.seek(self._sent)
            lines = file.readlines(min(_DELIVERY_BYTES, self._size - self._sent))
        whole_lines = [line for line in lines if line.endswith(b"\n")]
        return [json.loads(line) for line in whole_lines], self._sent + sum(map(len, whole_lines))

    def _note_delivered(self, end: int) -> None:
        """Note that everything before a position in the file has been delivered."""
        with self._changed:
            self._sent = end
            self.error = None
            self._is_doubtful = False
            self._changed.notify_all()
        # If the disk is full, some entries are sent again one day.
        with contextlib.suppress(OSError):
            write_text(self._path.with_suffix(".sent"), str(end))

    def _write_refused(self, refused: Sequence[tuple[str, Entry]]) -> None:
        """Keep refused entries in a file of their own."""
        for reason, entry in refused:
            sentence = f"{_entry_name(entry)}: {_shortened(reason, 200)}"
            if sentence not in self.refused:
                self.refused.append(sentence)
        with contextlib.suppress(OSError), self._path.with_suffix(".refused").open("a") as file:
            file.writelines(json.dumps({"reason": reason, "entry": entry}) + "\n" for reason, entry in refused)


def _entry_name(entry: Entry) -> str:
    """Return the kind of an entry and the first name in it, such as ``metrics val/loss``."""
    kind, content = next(iter(entry.items()))
    name = ""
    if kind in ("params", "tags") and isinstance(content, Mapping):
        name = str(next(iter(content), ""))
    elif kind == "metrics" and content:
        name = str(content[0][0])
    return f"{kind} {_shortened(name, 60)}".rstrip()


def _shortened(text: str, longest: int) -> str:
    """Return a text on one line with at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _size_of_whole_lines(path: Path) -> int:
    """Return the number of bytes up to the end of the last complete line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - _DELIVERY_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def number_in(path: Path) -> int:
    """Return the number in a file; 0 if there is none."""
    try:
        with path.open("rb") as file:
            return max(0, int(file.read(_NUMBER_CHARACTERS)))
    except (FileNotFoundError, ValueError):
        return 0
