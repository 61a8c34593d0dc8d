from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.moments import lead_moments
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier
from einthoven.models.time_frontend import TimeFrontend


def make_records(n: int = 12, samples: int = 200, seed: int = 0) -> NDArray[np.float64]:
    """Smooth signals with an offset, mV."""
    walk = np.random.default_rng(seed).normal(size=(n, 12, samples)).cumsum(axis=2) * 0.05
    return walk + 0.3


RECORDS = make_records()
MOMENTS = lead_moments([RECORDS])
SIGNALS = torch.from_numpy(RECORDS).float()


def fitted(k: int, window: float = 0.2, stride: float = 0.1, whiten: bool = False) -> TimeFrontend:
    records = [RECORDS[:5], RECORDS[5:]]
    return TimeFrontend.fit(MOMENTS, records, window=window, stride=stride, k=k, whiten=whiten, fs=100)


@pytest.mark.parametrize("whiten", [False, True])
def test_scores_are_those_of_the_pca_of_windows(whiten: bool) -> None:
    frontend = fitted(4, whiten=whiten)
    windows = np.lib.stride_tricks.sliding_window_view(RECORDS, 20, axis=2)
    flat = windows.reshape(-1, 20)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False, bias=True))
    np.testing.assert_allclose(frontend.pca.explained_variance_, values[::-1][:4], rtol=1e-9)
    scores = (windows[:, :, ::10] - flat.mean(axis=0)) @ vectors[:, ::-1][:, :4]
    scores /= np.sqrt(values[::-1][:4]) if whiten else np.sqrt(values[::-1][:4].mean())
    expected = scores.transpose(0, 1, 3, 2).reshape(12, 48, -1)
    found = frontend(SIGNALS).double().numpy()
    assert found.shape == (12, 48, frontend.steps(200)) == (12, 48, 19)
    signs = np.tile(np.sign((frontend.pca.components_ * vectors[:, ::-1][:, :4].T).sum(axis=1)), 12)
    np.testing.assert_allclose(found * signs[:, None], expected, atol=2e-4)


def test_state_dict_carries_everything() -> None:
    frontend = fitted(4, whiten=True)
    loaded = TimeFrontend(12, 4, 20, 10)
    loaded.load_state_dict(frontend.state_dict())
    assert torch.equal(loaded(SIGNALS), frontend(SIGNALS))
    assert list(frontend.parameters()) == []


def test_a_network_reads_the_scores_and_gradients_reach_the_leads() -> None:
    frontend = fitted(4)
    x = SIGNALS.clone().requires_grad_()
    network = ConvAttention(frontend.out_channels, 3, window=None, channels=(16, 16), heads=2)
    Classifier(frontend, network)(x).square().sum().backward()
    assert x.grad is not None and (x.grad.abs().sum(dim=(0, 2)) > 0).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 21}, "k must lie within 1 and 20"),
        ({"k": 4, "stride": 0.3}, "no longer than the window"),
        ({"k": 4, "stride": 0.001}, "one sample or more"),
        ({"k": 4, "window": 3.0}, "choose a shorter pca.window than 3.0 s"),
    ],
)
def test_refuses_what_does_not_fit(options: dict[str, float], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        fitted(**options)  # type: ignore[arg-type]
