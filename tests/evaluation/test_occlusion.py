"""What is taken away, and what that costs a model whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.evaluation.occlusion import _bridge, occlusion_by_lead, occlusion_by_wave
from einthoven.functional.waves import WAVES, waves
from einthoven.models.frontend import Classifier, Frontend

FS = 100.0
TARGET = torch.tensor([0, 1])


def heart(rate: float = 60.0, qrs: float = 0.04, seed: int = 0) -> Tensor:
    """Twelve leads of P, QRS and T as bumps of known places, the QRS at the even seconds of a rate of 60."""
    t = np.arange(1000) / FS
    beats = np.arange(0.8, 10.0, 60.0 / rate)
    size = np.random.default_rng(seed).uniform(0.5, 1.5, (12, 1))

    def bumps(offset: float, width: float) -> np.ndarray:
        return np.exp(-np.square((t - beats[:, None] - offset) / width) / 2).sum(axis=0)

    signal = 1.2 * bumps(0, qrs / 2) - 0.4 * bumps(0.04, qrs / 3) + 0.12 * bumps(-0.14, 0.02) + 0.3 * bumps(0.24, 0.035)
    return torch.from_numpy(size * signal).float()


class Weighted(nn.Module):
    """A linear model of all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 12, 1000, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("klt,nlt->nk", self.weight, x)


def test_a_lead_that_is_taken_away_costs_a_linear_model_its_terms() -> None:
    model = Classifier(Frontend(12), Weighted())
    x = torch.randn(2, 12, 1000, generator=torch.Generator().manual_seed(1))
    terms = (model.network.weight[TARGET] * x).sum(dim=2)  # type: ignore[index,operator]
    found = occlusion_by_lead(model, x, TARGET)
    torch.testing.assert_close(found.sum(dim=2), terms.detach(), rtol=1e-3, atol=1e-3)
    assert (found == found[..., :1]).all()


def test_a_wave_that_is_taken_away_costs_a_linear_model_what_differs_from_the_line() -> None:
    model = Classifier(Frontend(12), Weighted())
    x = torch.stack([heart(seed=1), heart(75, seed=2)])
    found, kind = occlusion_by_wave(model, x, TARGET, fs=FS), torch.from_numpy(waves(x.numpy(), FS))
    for number, _ in enumerate(WAVES, 1):
        inside = kind == number
        lost = model.network.weight[TARGET] * (x - _bridge(x, inside))  # type: ignore[index,operator]
        at = torch.where(inside[:, None], found, 0.0)
        torch.testing.assert_close(at.sum(dim=2), lost.sum(dim=2).detach(), rtol=1e-3, atol=2e-3)
    assert (found[(kind == 0)[:, None].expand_as(x)] == 0).all()


def test_lines_join_the_neighbours() -> None:
    x = torch.tensor([[[9.0, 1.0, 5.0, 5.0, 4.0, 8.0, 8.0]]])
    inside = torch.tensor([[True, False, True, True, False, True, True]])
    assert _bridge(x, inside).tolist() == [[[1.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0]]]
    assert torch.isfinite(_bridge(x, torch.ones_like(inside))).all()
    t = torch.arange(50.0)
    line = (2 + 3 * t).expand(2, 3, 50)
    torch.testing.assert_close(_bridge(line, torch.rand(2, 50) < 0.5)[..., 10:40], line[..., 10:40], atol=150, rtol=0)
    some = (t > 10) & (t < 30)
    torch.testing.assert_close(_bridge(line, some.expand(2, 50)), line)


@pytest.mark.parametrize("rate", [50.0, 60.0, 75.0, 100.0])
def test_each_wave_lies_in_its_window(rate: float) -> None:
    found = waves(heart(rate).numpy()[None], FS)[0]
    beats = np.arange(0.8, 9.3, 60.0 / rate)
    for wave, offset in (("P", -0.14), ("QRS", 0.0), ("T", 0.24)):
        at = np.rint((beats + offset) * FS).astype(int)
        assert [WAVES[k - 1] for k in found[at]] == [wave] * len(beats)
    assert (found == 3).sum() > 5 * len(beats)  # ST: 80 ms a beat, some under T's window in fast rates


def test_a_wide_qrs_has_a_wide_window_and_a_flat_record_no_waves() -> None:
    narrow, wide = (waves(heart(qrs=width).numpy()[None], FS)[0] for width in (0.04, 0.08))
    assert (wide == 2).sum() > 1.2 * (narrow == 2).sum()
    assert not waves(np.zeros((2, 12, 1000)), FS).any()
    both = waves(np.stack([heart().numpy(), np.zeros((12, 1000))]), FS)
    assert both[0].any() and not both[1].any()
