"""What is on its way to the tracking store: kept in a file until it has arrived.

An entry is a line of JSON, appended by the training and never waited for. A thread sends the lines in order and notes
how far it came. A store that is slow, down or restarted therefore costs the training nothing, and a run that is killed
loses nothing that it had written: whoever opens the file again, the resumed run or `einthoven sync`, goes on.
An entry is sent at least once; that it arrives once is up to `deliver`, which is told where it may be a repetition.
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

_AT_ONCE = 1 << 18  # bytes that are handed to `deliver` in one go
_PAUSE = 1.0  # seconds between two deliveries: many small ones become few large ones
_LONGEST_WAIT = 30.0  # seconds between two attempts while nobody answers
_LONGEST_NUMBER = 32  # characters
_LAST_WAIT = 1.0  # the same, once the run waits to end


class RefusedError(Exception):
    """The store has taken what it can, and answered that it will never take the rest.

    Parameters
    ----------
    refused : sequence of (str, entry)
        The reason, and an entry or the part of one that it holds for.
    """

    def __init__(self, refused: Sequence[tuple[str, Entry]]) -> None:
        super().__init__(refused[0][0])
        self.refused = refused


class Spool:
    """A file of entries, and the thread that delivers them.

    Parameters
    ----------
    path : Path
        The file, ``….jsonl``. Beside it stand ``….sent``, how far it has been delivered, and ``….refused``, what the
        store would not take, with its reason.
    deliver : callable
        (entries, doubtful) -> None. `doubtful` is true where some of the entries may have arrived already. Raises
        `RefusedError` for what never can be delivered, when the rest is, and anything else for what may be later.
    """

    def __init__(self, path: Path, deliver: Deliver) -> None:
        self.error: Exception | None = None  # of the last attempt
        self.refused: list[str] = []  # what the store would not take, and why, each once
        self._path, self._deliver = path, deliver
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._size = _whole_lines(path)
        self._file.truncate(self._size)  # of a killed run
        self._sent = min(number_in(path.with_suffix(".sent")), self._size)
        self._doubtful = self._sent < self._size
        self._changed = threading.Condition()
        self._ending = self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._thread = threading.Thread(target=self._work, name=f"tracking-{self._path.stem}", daemon=True)
        self._thread.start()

    def put(self, entry: Entry) -> None:
        """Append an entry.

        Raises
        ------
        OSError
            If the disk is full; the file is as it was then.
        """
        line = json.dumps(entry).encode() + b"\n"
        try:
            self._file.write(line)
            self._file.flush()
        except OSError:
            # What the buffer holds must not be written later, behind the end that everyone knows.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = self._path.open("ab")
            self._file.truncate(self._size)
            raise
        with self._changed:
            self._size += len(line)
            self._changed.notify_all()

    def entries(self) -> Iterator[dict[str, Any]]:
        """Everything that was ever put, delivered or not."""
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    @property
    def size(self) -> int:
        """Bytes of all entries: a number that no two states share."""
        return self._size

    @property
    def waiting(self) -> bool:
        """Whether something has not been delivered."""
        return self._sent < self._size

    def drain(self, patience: float) -> bool:
        """Wait until everything is delivered, or for `patience` seconds nothing could be; whether it all was."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            start, before = time.monotonic(), self._sent
            while self.waiting and self._thread is not None:
                self._changed.wait(0.5)
                if self._sent > before:
                    start, before = time.monotonic(), self._sent
                if self.error is not None and time.monotonic() - start > patience:
                    break
            self._ending = False
        return not self.waiting

    def close(self) -> None:
        """Stop delivering; what is left stays in the file."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None and self.error is None:
            self._thread.join(timeout=10)
        self._file.close()

    def _work(self) -> None:
        failures = 0
        while self._wait(failures):
            try:
                entries, end = self._next()
                self._deliver(entries, self._doubtful)
            except RefusedError as error:
                self._set_aside(error.refused)
            except Exception as error:  # whatever it is: a run does not stop for tracking
                failures, self._doubtful = failures + 1, True
                with self._changed:
                    self.error = error
                    self._changed.notify_all()
                continue
            failures = 0
            self._arrived(end)

    def _wait(self, failures: int) -> bool:
        """Wait for something to send, and for its time; False if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.waiting)
            pause = _PAUSE if failures == 0 else min(2.0 ** (failures - 1), _LONGEST_WAIT)
            until = time.monotonic() + pause
            while not self._stopped:
                if self._ending:
                    until = min(until, time.monotonic() + _LAST_WAIT) if failures else 0.0
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not self._stopped

    def _next(self) -> tuple[list[Entry], int]:
        with self._path.open("rb") as file:
            file.seek(self._sent)
            lines = file.readlines(min(_AT_ONCE, self._size - self._sent))
        lines = [line for line in lines if line.endswith(b"\n")]
        return [json.loads(line) for line in lines], self._sent + sum(map(len, lines))

    def _arrived(self, end: int) -> None:
        with self._changed:
            self._sent, self.error = end, None
            self._doubtful = False
            self._changed.notify_all()
        with contextlib.suppress(OSError):  # then some entries are sent again one day
            write_text(self._path.with_suffix(".sent"), str(end))

    def _set_aside(self, refused: Sequence[tuple[str, Entry]]) -> None:
        for reason, entry in refused:
            sentence = f"{_described(entry)}: {_cut(reason, 200)}"
            if sentence not in self.refused:
                self.refused.append(sentence)
        with contextlib.suppress(OSError), self._path.with_suffix(".refused").open("a") as file:
            file.writelines(json.dumps({"reason": reason, "entry": entry}) + "\n" for reason, entry in refused)


def _described(entry: Entry) -> str:
    """What an entry holds, by its first name: ``metrics val/loss``."""
    kind, content = next(iter(entry.items()))
    if isinstance(content, Mapping):
        name = next(iter(content), "") if kind in ("params", "tags") else ""
    else:
        name = content[0][0] if kind == "metrics" and content else ""
    return f"{kind} {_cut(str(name), 60)}".rstrip()


def _cut(text: str, longest: int) -> str:
    """A text on one line, not longer than that."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _whole_lines(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - _AT_ONCE)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def number_in(path: Path) -> int:
    """The number in a file; 0 if there is none."""
    try:
        with path.open("rb") as file:
            return max(0, int(file.read(_LONGEST_NUMBER)))
    except (FileNotFoundError, ValueError):
        return 0
