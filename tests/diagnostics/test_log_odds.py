"""The sums of log-odds of training records against a plain loop, and the log-odds against their definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from einthoven.contracts import Batch
from einthoven.diagnostics.log_odds import LogOddsSums, log_odds_of

ROWS, CLASSES = 6, 3


def batches() -> list[tuple[Batch, torch.Tensor]]:
    """Twelve batches of four rows with their logits. One batch has a mixed label, one a row that fills it up."""
    generator = torch.Generator().manual_seed(3)
    drawn = []
    for _ in range(12):
        index = torch.randperm(ROWS, generator=generator)[:4]
        y = (torch.rand(4, CLASSES, generator=generator) < 0.5).float()
        batch = Batch(torch.zeros(4, 1, 2), y, index, torch.ones(4, dtype=torch.bool))
        drawn.append((batch, torch.randn(4, CLASSES, generator=generator) * 3))
    drawn[1][0].y[2, 0] = 0.3
    drawn[3][0].valid[3] = False
    return drawn


def test_means_are_those_of_a_loop_without_mixed_and_filled_rows() -> None:
    sums = LogOddsSums(ROWS, single_label=False)
    assert sums.mean() is None
    used: dict[int, list[list[float]]] = {row: [] for row in range(ROWS)}
    for number, (batch, logits) in enumerate(batches()):
        sums.update(batch, logits, batch.y)
        for position, row in enumerate(batch.index.tolist()):
            if (number, position) not in ((1, 2), (3, 3)):
                used[row].append(logits[position].tolist())
    means = sums.mean()
    assert means is not None
    for row, values in used.items():
        assert means[row].numpy() == pytest.approx(np.mean(values, axis=0), abs=1e-6)
    assert sum(map(len, used.values())) == 46


def test_a_row_that_no_step_has_used_is_not_a_number() -> None:
    sums = LogOddsSums(ROWS, single_label=False)
    batch, logits = batches()[0]
    sums.update(replace(batch, index=torch.zeros_like(batch.index)), logits, batch.y)
    means = sums.mean()
    assert means is not None and means[0].isfinite().all() and means[1:].isnan().all()


def test_sums_continue_from_their_state() -> None:
    whole = LogOddsSums(ROWS, single_label=False)
    first = LogOddsSums(ROWS, single_label=False)
    for batch, logits in batches():
        whole.update(batch, logits, batch.y)
    for batch, logits in batches()[:2]:
        first.update(batch, logits, batch.y)
    second = LogOddsSums(ROWS, single_label=False)
    second.load_state_dict(first.state_dict())
    for batch, logits in batches()[2:]:
        second.update(batch, logits, batch.y)
    assert torch.equal(whole.mean(), second.mean())


def test_log_odds_of_a_softmax_are_those_of_its_probabilities() -> None:
    logits = torch.randn(50, 4, dtype=torch.float64) * 4
    p = logits.softmax(dim=1)
    assert torch.allclose(log_odds_of(logits, single_label=True), (p / (1 - p)).log())
    assert torch.equal(log_odds_of(logits, single_label=False), logits)
    # The probability itself is rounded to 1.
    sure = log_odds_of(torch.tensor([[60.0, 0.0, 0.0]]), single_label=True)
    assert sure[0, 0].item() == pytest.approx(60 - np.log(2), abs=1e-5)
