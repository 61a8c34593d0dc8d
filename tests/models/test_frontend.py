from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from einthoven.errors import UserError
from einthoven.functional.moments import lead_moments
from einthoven.functional.pca import PCA
from einthoven.models.frontend import Classifier, Frontend


def make_records(n: int = 20, samples: int = 400, seed: int = 0) -> NDArray[np.int16]:
    """Microvolts on 12 leads that span 8 dimensions up to rounding, as in a real ECG, with an offset each."""
    rng = np.random.default_rng(seed)
    independent = rng.normal(size=(n, 8, samples)) * np.array([500, 400, 300, 200, 150, 100, 80, 60])[:, None]
    independent += rng.normal(size=(8, 1)) * 100
    one, two = independent[:, 0], independent[:, 1]
    limb = np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2], axis=1)
    return np.rint(np.concatenate([limb, independent[:, 2:]], axis=1)).astype(np.int16)


RECORDS = make_records()
MOMENTS = lead_moments([RECORDS], scale=1e-3)
SIGNALS = torch.from_numpy(RECORDS.astype(np.float32)) / 1000


def channels(frontend: Frontend) -> NDArray[np.float64]:
    y = frontend(SIGNALS).double().numpy()
    return y.transpose(1, 0, 2).reshape(y.shape[1], -1)


def test_none_is_the_benchmarks_scaling() -> None:
    frontend = Frontend.fit(MOMENTS)
    expected = (SIGNALS - SIGNALS.mean()) / SIGNALS.std(correction=0)
    torch.testing.assert_close(frontend(SIGNALS), expected, rtol=1e-4, atol=1e-5)
    assert frontend.out_channels == 12


@pytest.mark.parametrize("k", [None, 8, 3, 1])
def test_leads_projects_and_keeps_relative_variances(k: int | None) -> None:
    frontend = Frontend.fit(MOMENTS, "leads", k)
    pca = PCA(k).fit_covariance(MOMENTS.mean, MOMENTS.covariance)
    flat = RECORDS.transpose(0, 2, 1).reshape(-1, 12) / 1000
    scores = pca.transform(flat).T
    expected = scores / np.sqrt(pca.explained_variance_.mean())
    found = channels(frontend)
    assert frontend.out_channels == len(found) == (k or 12)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.var(axis=1).mean() == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(found.mean(axis=1), 0.0, atol=1e-5)


def test_whiten_drops_the_four_redundant_directions() -> None:
    frontend = Frontend.fit(MOMENTS, "whiten")
    assert frontend.out_channels == 8
    np.testing.assert_allclose(np.cov(channels(frontend), bias=True), np.eye(8), atol=1e-3)
    assert Frontend.fit(MOMENTS, "whiten", 5).out_channels == 5
    assert Frontend.fit(MOMENTS, "whiten", 12).out_channels == 8


@pytest.mark.parametrize(("mode", "k"), [("none", None), ("leads", 8), ("whiten", None)])
def test_state_dict_carries_everything(mode: str, k: int | None) -> None:
    fitted = Frontend.fit(MOMENTS, mode, k)
    loaded = Frontend(12, fitted.out_channels)
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(SIGNALS), fitted(SIGNALS))


@pytest.mark.parametrize("mode", ["leads", "whiten"])
@pytest.mark.parametrize("leads", [1, 3])
def test_of_fewer_leads_than_k_there_are_as_many_components(mode: str, leads: int) -> None:
    few = lead_moments([RECORDS[:, :leads]], scale=1e-3)
    frontend, expected = Frontend.fit(few, mode, 8), Frontend.fit(few, mode)
    assert 1 <= frontend.out_channels <= leads
    torch.testing.assert_close(frontend(SIGNALS[:, :leads]), expected(SIGNALS[:, :leads]))


def test_nothing_to_train_and_any_length() -> None:
    frontend = Frontend.fit(MOMENTS, "leads", 8)
    assert list(frontend.parameters()) == []
    assert frontend(torch.zeros(2, 12, 37)).shape == (2, 8, 37)


def test_unfitted_is_the_identity() -> None:
    assert torch.equal(Frontend()(SIGNALS), SIGNALS)


def test_classifier_takes_millivolts_and_lets_gradients_reach_them() -> None:
    network = nn.Sequential(nn.Conv1d(8, 4, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    model = Classifier(Frontend.fit(MOMENTS, "leads", 8), network)
    x = SIGNALS[:2].clone().requires_grad_()
    logits = model(x)
    logits.square().sum().backward()
    assert logits.shape == (2, 3)
    assert x.grad is not None and x.grad.abs().amax(dim=(0, 2)).min() > 0
    assert {name.split(".")[0] for name in model.state_dict()} == {"frontend", "network"}


@pytest.mark.parametrize(
    ("mode", "k", "sentence"),
    [
        ("leads", 13, "k must lie within 1 and 12"),
        ("leads", 0, "k must lie within 1 and 12"),
        ("whiten", -1, "k must lie within 1 and 12"),
        ("none", 8, "remove k"),
        ("lead", 8, "one of none, leads, whiten"),
    ],
)
def test_refuses_what_does_not_fit(mode: str, k: int, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Frontend.fit(MOMENTS, mode, k)


@pytest.mark.parametrize("mode", ["none", "leads", "whiten"])
def test_refuses_flat_signals(mode: str) -> None:
    flat = np.zeros((2, 12, 10)) + np.arange(12.0)[:, None]
    with pytest.raises(UserError, match="do not vary"):
        Frontend.fit(lead_moments([flat]), mode)
