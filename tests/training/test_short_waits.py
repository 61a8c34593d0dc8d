from __future__ import annotations

import threading

import pytest
import torch

from einthoven.training.short_waits import VARIABLES, ShortWaits


@pytest.fixture(autouse=True)
def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def teams() -> int:
    return sum(thread.name == "short waits" for thread in threading.enumerate())


def test_a_second_team_of_threads_exists_from_begin_to_end() -> None:
    waits = ShortWaits()
    waits.end()
    for _ in range(2):
        waits.begin()
        waits.begin()
        assert teams() == 1
        waits.end()
        assert teams() == 0


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_user_decides_how_threads_wait(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    waits = ShortWaits()
    waits.begin()
    assert teams() == 0
    waits.end()


def test_sums_keep_their_order() -> None:
    # Sums of a million numbers, whose last bits depend on the number of threads that share them.
    values = torch.randn(2**20, generator=torch.Generator().manual_seed(0))
    waits = ShortWaits()
    before = values.sum()
    threads = torch.get_num_threads()
    waits.begin()
    assert torch.get_num_threads() == threads
    assert torch.equal(values.sum(), before)
    waits.end()
