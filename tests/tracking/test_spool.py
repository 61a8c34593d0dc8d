from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from einthoven.tracking import spool as module
from einthoven.tracking.spool import Entry, RefusedError, Spool


class Store:
    """A store that fails when it is told to, before or after it has taken what it was given."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.calls: list[tuple[int, bool]] = []
        self.fail_before = self.fail_after = 0
        self.refuse: set[int] = set()

    def __call__(self, entries: Sequence[Entry], doubtful: bool) -> None:
        self.calls.append((len(entries), doubtful))
        if self.fail_before:
            self.fail_before -= 1
            raise ConnectionError("refused")
        self.taken += [e["n"] for e in entries if e["n"] not in self.refuse]
        if bad := [e for e in entries if e["n"] in self.refuse]:
            raise RefusedError([(f"no {e['n']}", e) for e in bad])
        if self.fail_after:
            self.fail_after -= 1
            raise TimeoutError("no answer")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for wait in ("_PAUSE", "_LONGEST_WAIT", "_LAST_WAIT"):
        monkeypatch.setattr(module, wait, 0.01)


@pytest.fixture
def store() -> Iterator[Store]:
    before = set(threading.enumerate())
    yield Store()
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), f"{thread.name} goes on after its spool was closed"


def filled(path: Path, store: Store, numbers: range) -> Spool:
    spool = Spool(path / "entries.jsonl", store)
    for n in numbers:
        spool.put({"n": n})
    return spool


def test_entries_arrive_in_order_and_many_at_once(tmp_path: Path, store: Store) -> None:
    spool = filled(tmp_path, store, range(1000))
    spool.start()
    assert spool.drain(1.0) and not spool.waiting
    assert store.taken == list(range(1000))
    assert len(store.calls) < 10 and not any(doubtful for _, doubtful in store.calls)
    spool.close()


def test_a_store_that_was_down_gets_everything_and_is_told_what_may_be_a_repetition(
    tmp_path: Path, store: Store
) -> None:
    store.fail_before, store.fail_after = 2, 1
    spool = filled(tmp_path, store, range(10))
    spool.start()
    assert spool.drain(10.0) and spool.error is None
    assert [doubtful for _, doubtful in store.calls] == [False, True, True, True]
    assert store.taken == [*range(10), *range(10)]  # the second time doubtful: delivery sorts that out
    spool.put({"n": 10})
    assert spool.drain(10.0) and store.calls[-1] == (1, False)
    spool.close()


def test_a_file_that_cannot_be_read_for_a_moment_is_read_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(errno.EIO, "Input/output error")]
    read = Spool._next_entries

    def unsteady(self: Spool) -> tuple[list[Entry], int]:
        if failures:
            raise failures.pop()
        return read(self)

    monkeypatch.setattr(Spool, "_next_entries", unsteady)
    spool = filled(tmp_path, store, range(3))
    spool.start()
    until = time.monotonic() + 10
    while spool.waiting and time.monotonic() < until:
        time.sleep(0.01)
    spool.close()
    assert store.taken == [0, 1, 2] and not failures


def test_what_is_left_waits_for_the_next_process(tmp_path: Path, store: Store) -> None:
    spool = filled(tmp_path, store, range(5))
    spool.start()
    spool.drain(1.0)
    store.fail_before = 1000
    for n in range(5, 10):
        spool.put({"n": n})
    assert not spool.drain(0.05) and isinstance(spool.error, ConnectionError)
    spool.close()
    with (tmp_path / "entries.jsonl").open("a") as file:
        file.write('{"n": 10')  # a line that a kill cut short
    store.fail_before = 0
    again = Spool(tmp_path / "entries.jsonl", store)
    assert [e["n"] for e in again.entries()] == list(range(10))
    again.start()
    assert again.drain(1.0)
    assert store.taken == list(range(10)) and store.calls[-1] == (5, True)
    again.close()


def test_what_a_store_refuses_is_set_aside_and_holds_up_nothing(tmp_path: Path, store: Store) -> None:
    store.refuse = {3, 7}
    spool = filled(tmp_path, store, range(10))
    spool.start()
    assert spool.drain(1.0)
    assert sorted(store.taken) == [0, 1, 2, 4, 5, 6, 8, 9] and spool.refused == ["n: no 3", "n: no 7"]
    lines = [json.loads(line) for line in (tmp_path / "entries.refused").read_text().splitlines()]
    assert lines == [{"reason": f"no {n}", "entry": {"n": n}} for n in (3, 7)]
    spool.close()


def test_entries_larger_than_one_delivery(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DELIVERY_BYTES", 10)
    spool = filled(tmp_path, store, range(200))
    spool.start()
    assert spool.drain(5.0) and store.taken == list(range(200))
    spool.close()


def test_whoever_waits_for_a_store_says_so_once(tmp_path: Path, store: Store) -> None:
    store.fail_before = 1000
    spool = filled(tmp_path, store, range(3))
    spool.start()
    errors: list[Exception] = []
    assert not spool.drain(1.2, errors.append)
    assert [str(error) for error in errors] == ["refused"]
    spool.close()
