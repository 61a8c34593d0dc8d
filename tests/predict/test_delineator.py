"""The delineator of the package: its size, its accuracy, any sampling frequency and any leads, and damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.synthetic import Generated, generate
from einthoven.errors import UserError
from einthoven.evaluation.segmentation import boundary_errors, dice, overlap_counts
from einthoven.functional.conform import resample
from einthoven.functional.delineation import delineate, mask_to_probability
from einthoven.functional.leads import LEADS
from einthoven.predict.delineator import DESCRIPTION, PACKAGED, Delineator, load_delineator
from einthoven.predict.sealed_folder import WEIGHTS, seal_description


@pytest.fixture(scope="module")
def delineator() -> Delineator:
    return load_delineator()


@pytest.fixture(scope="module")
def records() -> Generated:
    """Twenty records of patients that the delineator was not trained on."""
    return generate(20, seed=4711, rates=(100, 500))


def test_it_is_small_and_says_where_it_comes_from(delineator: Delineator) -> None:
    assert sum(file.stat().st_size for file in PACKAGED.iterdir()) <= 1_000_000
    assert "synthetic ECGs" in delineator.notice and "Not for diagnosis" in delineator.notice
    assert delineator.provenance["metrics"]["dice/QRS"] >= 0.95
    assert len(delineator.sha256) == 64


def test_generated_waves_are_found(delineator: Delineator, records: Generated) -> None:
    y = mask_to_probability(records.masks[100])
    p = delineator.probabilities(records.signals[100] * 1e-3, 100)
    assert p.shape == y.shape and p.dtype == np.float32
    assert (dice(*overlap_counts(y, p))[0] >= [0.85, 0.95, 0.90]).all()
    compared = boundary_errors(y, p, 100)
    # Twenty records of another version of the generator may have flatter T waves than those of the training.
    for name, limit in {"qrs_onset": 8, "qrs_end": 8, "p_onset": 15, "p_end": 15, "t_onset": 20, "t_end": 20}.items():
        assert compared.errors[name].std() <= limit, name


@pytest.mark.parametrize("fs", [250.0, 500.0])
def test_another_sampling_frequency_gives_the_same_waves(delineator: Delineator, records: Generated, fs: float) -> None:
    step = round(500 / fs)
    # Every second sample of 500 Hz is a signal of 250 Hz: the generated leads have little above 125 Hz but noise.
    signals = records.signals[500][..., ::step] * 1e-3
    p = delineator.probabilities(signals, fs)
    y = mask_to_probability(records.masks[500][:, ::step])
    assert p.shape == y.shape
    assert (dice(*overlap_counts(y, p))[0] >= [0.85, 0.95, 0.90]).all()
    # At the samples of the network, the probabilities are those of the network.
    at_100_hz = delineator.probabilities(resample(signals[0].astype(np.float32), fs, 100)[None], 100)
    np.testing.assert_allclose(p[:1, :, :: round(fs / 50)], at_100_hz[..., ::2], atol=1e-5)


def test_leads_may_come_in_any_order_and_may_be_lost(delineator: Delineator, records: Generated) -> None:
    x = records.signals[100][:4] * 1e-3
    p = delineator.probabilities(x, 100)
    np.testing.assert_array_equal(delineator.probabilities(x[:, ::-1], 100, LEADS[::-1]), p)
    few = [0, 1, 7]
    lost = np.zeros_like(x)
    lost[:, few] = x[:, few]
    with_gap = x.copy()
    with_gap[:, [lead for lead in range(12) if lead not in few]] = np.nan
    expected = delineator.probabilities(lost, 100)
    np.testing.assert_array_equal(delineator.probabilities(x[:, few], 100, [LEADS[lead] for lead in few]), expected)
    np.testing.assert_array_equal(delineator.probabilities(with_gap, 100), expected)
    assert delineator.probabilities(x[:0], 100).shape == (0, 3, 1000)
    assert delineator.probabilities(x[..., :3], 100).shape == (4, 3, 3)


def test_missing_samples_hide_no_other_wave(delineator: Delineator, records: Generated) -> None:
    x = records.signals[100][:4] * 1e-3
    expected = delineate(delineator.probabilities(x, 100), 100)
    with_gaps = x.copy()
    with_gaps[:, :, 300:302] = np.nan
    with_gaps[:, 7, 500:800] = np.inf
    found = delineate(delineator.probabilities(with_gaps, 100), 100)
    for name in ("qrs_onset", "qrs_end"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=0.03)


def test_signals_that_do_not_fit_are_refused(delineator: Delineator) -> None:
    with pytest.raises(UserError, match=r"shape \(12, 100\)"):
        delineator.probabilities(np.zeros((12, 100)), 100)
    with pytest.raises(UserError, match="none of the leads X Y is known"):
        delineator.probabilities(np.zeros((1, 2, 100)), 100, ["X", "Y"])


def test_a_copy_is_the_same_and_half_precision_changes_little(
    delineator: Delineator, records: Generated, tmp_path: Path
) -> None:
    x = records.signals[100][:2] * 1e-3
    delineator.save(tmp_path / "run" / "delineator")
    copy = load_delineator(tmp_path / "run")
    np.testing.assert_array_equal(copy.probabilities(x, 100), delineator.probabilities(x, 100))
    assert copy.provenance == delineator.provenance


def _damage(folder: Path, kind: str) -> None:
    text = (folder / DESCRIPTION).read_text()
    weights = (folder / WEIGHTS).read_bytes()
    description = json.loads(text)
    if kind == "weights":
        (folder / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    elif kind == "text":
        (folder / DESCRIPTION).write_text(text.replace("Not for", "Now for"))
    elif kind == "json":
        (folder / DESCRIPTION).write_text("{")
    elif kind == "missing":
        (folder / DESCRIPTION).unlink()
    else:
        changes = {
            "code": {"network": {"class": "os.system", "options": {}}},
            "large": {"network": {**description["model"]["network"], "options": {"channels": [10**9, 4]}}},
        }
        if kind == "format":
            description["format"] = 99
        else:
            description["model"] |= changes[kind]
        (folder / DESCRIPTION).write_bytes(seal_description(description, weights))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("weights", "damaged or changed"),
        ("text", "damaged or changed"),
        ("json", "delineator.json"),
        ("missing", "no delineator there"),
        ("format", "a delineator of format 99"),
        ("code", "os.system"),
        ("large", "expected numbers up to"),
    ],
)
def test_a_damaged_or_foreign_delineator_is_one_sentence(tmp_path: Path, kind: str, reason: str) -> None:
    folder = tmp_path / "delineator"
    shutil.copytree(PACKAGED, folder)
    _damage(folder, kind)
    with pytest.raises(UserError, match=reason) as refusal:
        load_delineator(folder)
    assert "\n" not in str(refusal.value)
