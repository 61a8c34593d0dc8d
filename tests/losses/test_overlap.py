from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from einthoven.losses.overlap import dice_cross_entropy, soft_dice

MASK = st.lists(st.booleans(), min_size=12, max_size=12)


@given(MASK, MASK)
def test_dice_of_binary_masks_is_the_overlap_of_sets(first: list[bool], second: list[bool]) -> None:
    a, b = ({k for k, there in enumerate(mask) if there} for mask in (first, second))
    expected = 1 - 2 * len(a & b) / (len(a) + len(b)) if a or b else 0.0
    p, y = (torch.tensor(mask, dtype=torch.float64).view(1, 1, -1) for mask in (first, second))
    assert soft_dice(p, y).item() == pytest.approx(expected)


def test_dice_is_a_mean_over_classes_and_one_value_per_record() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3, 4, 20, generator=generator, dtype=torch.float64)
    y = (torch.rand(3, 4, 20, generator=generator) < 0.5).double()
    by_hand = [
        np.mean([1 - 2 * (p[i, c] * y[i, c]).sum() / (p[i, c].sum() + y[i, c].sum()) for c in range(4)])
        for i in range(3)
    ]
    np.testing.assert_allclose(soft_dice(p, y).numpy(), by_hand)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_dice_and_cross_entropy_are_added(output: str) -> None:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(2, 3, 10, generator=generator, dtype=torch.float64)
    label = torch.randint(3, (2, 10), generator=generator)
    y = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    if output == "softmax":
        expected = torch.nn.functional.cross_entropy(z, label, reduction="none").mean(dim=1)
        expected = expected + soft_dice(z.softmax(dim=1), y, smooth=1.0)
    else:
        expected = torch.nn.functional.binary_cross_entropy(z.sigmoid(), y, reduction="none").mean(dim=(1, 2))
        expected = expected + soft_dice(z.sigmoid(), y, smooth=1.0)
    torch.testing.assert_close(dice_cross_entropy(z, y, output=output), expected)


@pytest.mark.parametrize("output", ["sigmoid", "softmax"])
def test_gradients(output: str) -> None:
    z = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64, requires_grad=True)
    y = torch.nn.functional.one_hot(torch.arange(10).view(2, 5) % 3, 3).movedim(-1, 1).double()
    assert torch.autograd.gradcheck(lambda z: dice_cross_entropy(z, y, output=output), (z,))


def test_a_mask_that_is_in_neither_has_no_loss_and_no_nan() -> None:
    p = torch.zeros(1, 2, 8, requires_grad=True)
    loss = soft_dice(p, torch.zeros(1, 2, 8))
    loss.sum().backward()
    assert loss.item() == 0.0 and p.grad is not None and p.grad.isfinite().all()


def test_extreme_logits_are_finite() -> None:
    y = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    for output in ("sigmoid", "softmax"):
        z = torch.tensor([[[1e4, -1e4], [1e4, -1e4]]], requires_grad=True)
        loss = dice_cross_entropy(z, y, output=output)
        loss.sum().backward()
        assert loss.isfinite().all() and z.grad is not None and z.grad.isfinite().all()
