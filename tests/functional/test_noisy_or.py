"""Classes that are read from statements: the probability that at least one statement holds."""

from __future__ import annotations

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from einthoven.functional.noisy_or import member_table, noisy_or_logits
from einthoven.models.readout import Readout

MEMBERS = [[0, 1], [2], [0, 2, 3]]
TABLE = member_table(MEMBERS, 4)


def exact_logit(logits: list[float]) -> float:
    """log(p / (1 - p)) of p = 1 - Π (1 - σ(z)), with a thousand digits."""
    with mpmath.workdps(1000):
        none_holds = mpmath.mpf(1)
        for logit in logits:
            none_holds *= 1 - 1 / (1 + mpmath.exp(-mpmath.mpf(logit)))
        return float(mpmath.log((1 - none_holds) / none_holds))


@given(st.lists(st.floats(-700, 700), min_size=4, max_size=4))
def test_it_is_the_closed_form_for_all_logits(logits: list[float]) -> None:
    found = noisy_or_logits(torch.tensor([logits], dtype=torch.float64), TABLE)[0]
    expected = [exact_logit([logits[k] for k in members]) for members in MEMBERS]
    assert found.tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_probabilities_that_round_to_0_or_1_have_finite_logits_and_gradients() -> None:
    logits = torch.tensor([[-200.0, -201.0, 300.0, -1e4], [500.0, 400.0, -300.0, 0.0]], requires_grad=True)
    found = noisy_or_logits(logits, TABLE)
    expected = [[exact_logit([row[k] for k in members]) for members in MEMBERS] for row in logits.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))
    found.sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_its_gradient_is_that_of_finite_differences() -> None:
    logits = torch.linspace(-3, 3, 8, dtype=torch.float64).view(2, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: noisy_or_logits(z, TABLE), logits)
    assert torch.autograd.gradgradcheck(lambda z: noisy_or_logits(z, TABLE), logits)


def test_a_readout_finds_the_statements_by_name() -> None:
    readout = Readout(("a", "b", "c"), (("c", "a"), ("b",)))
    logits = torch.tensor([[-1.0, 0.5, 2.0]], dtype=torch.float64)
    assert readout(logits).tolist()[0] == pytest.approx([exact_logit([2.0, -1.0]), 0.5])
    assert not readout.state_dict()  # it has nothing to save
    again = Readout(**readout.options())
    assert torch.equal(again(logits), readout(logits))


@pytest.mark.parametrize("members", [((),), (("d",),)])
def test_a_class_without_statements_is_refused(members: tuple[tuple[str, ...], ...]) -> None:
    with pytest.raises(ValueError, match="one or more of"):
        Readout(("a", "b", "c"), members)
