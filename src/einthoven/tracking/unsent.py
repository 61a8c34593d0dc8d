"""Sentences about runs that a tracking store does not have completely. A command collects them."""

from __future__ import annotations

import sys
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
    """Add sentences to the list of the innermost `collect_unsent`.

    A run that a launcher has started in another process has no such list, so they are printed at once.
    """
    collected = _sentences.get()
    if collected is not None:
        collected.extend(sentences)
        return
    for sentence in sentences:
        print(f"einthoven: {sentence}", file=sys.stderr)
