"""Embeddings of files: the inputs of the head, for records, windows and time steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from einthoven.errors import UserError
from einthoven.functional.windows import cut_windows
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.embedding import Embedded, Encoder, embed_files

WriteRecord = Callable[..., Path]


def inputs_of_the_head(bundle: Bundle, x: Tensor) -> Tensor:
    """What the head reads while the model predicts signals (B, L, T): the mean over the windows of the network."""
    captured: list[Tensor] = []
    handle = bundle.model.network.head.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
    with torch.inference_mode():
        bundle.model(x)
    handle.remove()
    return captured[0].reshape(len(x), -1, captured[0].shape[-1]).mean(dim=1)


def noise(records: int, samples: int = 1000) -> np.ndarray:
    return np.rint(np.random.default_rng(0).normal(0, 300, (records, 12, samples))).astype(np.int16)


def test_the_embedding_of_the_packaged_model_is_what_its_head_reads() -> None:
    bundle = read_bundle(SYNTHETIC_BUNDLE)
    x = torch.from_numpy(noise(3)) * 1e-3
    expected = inputs_of_the_head(bundle, x)
    torch.testing.assert_close(Encoder.from_bundle(bundle).embed(x), expected, rtol=1e-4, atol=1e-5)


def test_windows_of_the_training_are_averaged(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    bundle = replace(bundle, input_format=replace(bundle.input_format, window=400, stride=300))
    x = torch.from_numpy(noise(2)) * 1e-3
    windows = cut_windows(x, 400, 300)
    expected = inputs_of_the_head(bundle, windows.flatten(0, 1)).reshape(2, windows.shape[1], -1).mean(dim=1)
    torch.testing.assert_close(Encoder.from_bundle(bundle).embed(x), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def long_record(write_record: WriteRecord, tmp_path: Path) -> Path:
    """A record of 25 s."""
    return write_record(tmp_path, "long", noise(1, 2500)[0]).with_suffix(".hea")


def embedded(encoder: Encoder, file: Path, rows: str) -> Embedded:
    (result,) = embed_files(encoder, [file], {}, rows)
    assert result.refused is None
    return result


def test_a_long_record_is_the_mean_of_its_windows(make_bundle: Callable[..., Bundle], long_record: Path) -> None:
    encoder = Encoder.from_bundle(make_bundle())
    windows = embedded(encoder, long_record, "window")
    assert windows.start_s.tolist() == [0.0, 10.0, 15.0] and windows.window.tolist() == [0, 1, 2]
    signal = torch.from_numpy(noise(1, 2500)[:, :, 1500:]) * 1e-3
    np.testing.assert_allclose(windows.values[2:], encoder.embed(signal).numpy(), rtol=1e-4, atol=1e-5)
    record = embedded(encoder, long_record, "record")
    assert record.window.tolist() == [3]
    np.testing.assert_allclose(record.values[0], windows.values.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_tokens_have_their_places_in_the_record(make_bundle: Callable[..., Bundle], long_record: Path) -> None:
    bundle = make_bundle()
    bundle = replace(bundle, input_format=replace(bundle.input_format, window=500, stride=500))
    encoder = Encoder.from_bundle(bundle)
    tokens = embedded(encoder, long_record, "token")
    # The network has a token every 4 samples, and reads 100 samples at once: 19 pieces of half a second in 5 s.
    starts = tokens.start_s.reshape(3, 2, -1, 25)
    assert np.diff(starts[0, 0, 0]) == pytest.approx(0.04)
    assert starts[:, :, 0, 0].tolist() == [[0.0, 5.0], [10.0, 15.0], [15.0, 20.0]]
    assert starts[0, 0, -1, -1] == pytest.approx(4.96)
    assert tokens.token.max() == 2 * starts.shape[2] * 25 - 1
    assert (tokens.window.reshape(3, -1) == [[0], [1], [2]]).all()
    values = tokens.values.reshape(3, 2, -1, tokens.values.shape[1])
    signal = torch.from_numpy(noise(1, 2500)[:, :, 1500:2000]) * 1e-3
    expected, _ = encoder.embed_tokens(signal)
    np.testing.assert_allclose(values[1, 1], expected[0].numpy(), rtol=1e-4, atol=1e-5)


def test_values_that_are_not_finite_are_refused(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    with torch.no_grad():
        next(bundle.model.network.parameters()).fill_(torch.inf)
    with pytest.raises(UserError, match="not finite"):
        Encoder.from_bundle(bundle).embed(torch.from_numpy(noise(1)) * 1e-3)
