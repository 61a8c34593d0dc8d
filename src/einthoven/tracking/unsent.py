"""Sentences about runs that a tracking store does not have completely. A command collects them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_sentences: ContextVar[list[str] | None] = ContextVar("sentences", default=None)


@contextmanager
def collect_unsent() -> Iterator[list[str]]:
    """Collect the sentences of `add_unsent` in a new list until the block ends."""
    sentences: list[str] = []
    token = _sentences.set(sentences)
    try:
        yield sentences
    finally:
        _sentences.reset(token)


def add_unsent(sentences: Iterable[str]) -> None:
    """Add sentences to the list of the innermost `collect_unsent`, if there is one."""
    collected = _sentences.get()
    if collected is not None:
        collected.extend(sentences)
