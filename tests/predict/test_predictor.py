"""From records to answers: the same ECG gives the same answer however it is stored, and what is missing is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.evaluation.uncertainty import entropy
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.forward import predict_windows
from einthoven.predict.signal import InputFormat

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
ROWS = np.arange(12)[:, None]
TWO = {
    "class": "einthoven.models.mlp.MLP",
    "options": {"in_channels": 8, "num_classes": 3, "width": 8, "depth": 1, "samples": 1000},
}


def record(seconds: float = 10.0, fs: float = 100.0, seed: int = 0, size: float = 0.5) -> Record:
    """Sines below 15 Hz, the same at every sampling frequency."""
    rng, t = np.random.default_rng(seed), np.arange(round(seconds * fs)) / fs
    parts = rng.normal(0, size / 3, (12, 12, 1)) * np.sin(
        2 * np.pi * rng.uniform(0.5, 15, (12, 12, 1)) * t + rng.uniform(0, 6, (12, 12, 1))
    )
    return Record(parts.sum(axis=1).astype(np.float32), fs, LEADS, f"record-{seed}")


@pytest.fixture
def predictor(saved: Path) -> Predictor:
    return load_bundle(saved)


def test_the_answer_does_not_depend_on_how_a_record_is_stored(predictor: Predictor) -> None:
    plain = record()
    expected = predictor.predict([plain]).probabilities
    order = np.random.default_rng(1).permutation(12)
    shuffled = replace(plain, signal=plain.signal[order], leads=tuple(LEADS[k] for k in order))
    assert predictor.predict([shuffled]).probabilities == pytest.approx(expected, abs=1e-9)
    for fs in (200.0, 250.0, 500.0, 1000.0):
        found = predictor.predict([record(fs=fs)]).probabilities
        assert found == pytest.approx(expected, abs=2e-3)  # the edges are those of the filter


def test_units_and_names_of_leads_in_files_give_the_same_answer(
    predictor: Predictor, tmp_path: Path, write_record: Callable[..., Path]
) -> None:
    digital = np.rint(record().signal * 1000).astype(np.int16)
    expected = predictor.predict([write_record(tmp_path, "plain", digital)]).probabilities
    order = [5, 3, 0, 1, 2, 4, 11, 10, 9, 8, 7, 6]
    names = [LEADS[k].upper() for k in order]
    microvolt = write_record(tmp_path, "other", digital[order], leads=names, gain="1(0)/uV")
    assert predictor.predict([microvolt]).probabilities == pytest.approx(expected, abs=1e-9)
    table = tmp_path / "volt.csv"
    rows = digital.T / 1e6
    table.write_text("\n".join([",".join(LEADS), *(",".join(f"{v:.6f}" for v in row) for row in rows)]))
    read = read_record(table, fs=100, units="V")
    assert predictor.predict([read]).probabilities == pytest.approx(expected, abs=1e-9)


def test_a_real_record_at_500_hz_is_answered_much_as_at_100(predictor: Predictor, real_data: Path) -> None:
    high = sorted((real_data / "ptbxl" / "records500").rglob("*.hea"))[:8]
    low = [Path(str(f).replace("records500", "records100").replace("_hr", "_lr")) for f in high]
    logits = [np.log(p) - np.log1p(-p) for p in (predictor.predict(files).probabilities for files in (high, low))]
    assert np.abs(logits[0] - logits[1]).max() < 0.1 < np.ptp(logits[0], axis=0).max()


def test_answers_are_probabilities_with_intervals_and_sets(predictor: Predictor) -> None:
    found = predictor.predict([record(seed=s) for s in range(40)])
    p, low, high = found.probabilities, found.intervals[..., 0], found.intervals[..., 1]
    assert p.shape == (40, 3) and ((low < p) & (p < high)).all()
    threshold = predictor.bundles[0].conformal[0.1]
    for row, chosen in zip(p, found.sets, strict=True):
        assert chosen == tuple(n for n, q in zip(predictor.classes, row, strict=True) if q >= threshold)
    assert found.alpha == 0.1 and found.entropy.epistemic == pytest.approx(np.zeros(40))
    assert found.entropy.total == pytest.approx(entropy(p, single_label=False))
    one_by_one = np.concatenate([predictor.predict([record(seed=s)]).probabilities for s in range(40)])
    assert p == pytest.approx(one_by_one, abs=1e-6)
    assert len(predictor.predict([]).probabilities) == 0
    with pytest.raises(UserError, match=r"thresholds for 0.1, 0.2"):
        predictor.predict([record()], alpha=0.05)


def in_columns(whole: Any, columns: int) -> Any:
    """Return a record in which only some leads are recorded at a time, in columns as on paper."""
    column_of_lead = np.arange(12)[:, None] * columns // 12
    column_of_sample = np.arange(1000) * columns // 1000
    return replace(whole, signal=np.where(column_of_lead == column_of_sample, whole.signal, np.nan))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (lambda r: replace(r, signal=r.signal[:11], leads=LEADS[:11]), "lead V6 missing; this model reads I II"),
        (lambda r: replace(r, signal=r.signal[:, :900]), "the record is 9 s long; this model needs at least 10 s"),
        (lambda r: replace(r, fs=50.0), "sampled at 50 Hz, so that it contains nothing above 25 Hz"),
        (
            lambda r: replace(r, signal=np.where(np.arange(12)[:, None] == 3, np.nan, r.signal)),
            "no valid sample in aVR",
        ),
        (
            # Three leads at a time, one after the other, as on paper.
            lambda r: replace(
                r, signal=np.where(np.arange(12)[:, None] // 3 == np.arange(1000) // 250, r.signal, np.nan)
            ),
            "75% of the samples of I II .* are invalid or were not recorded; this model needs more than 50%",
        ),
        (
            lambda r: replace(
                r, signal=np.where(np.arange(12)[:, None] // 6 == np.arange(1000) // 500, r.signal, np.nan)
            ),
            "50% of the samples",
        ),
    ],
)
def test_a_record_that_lacks_something_is_refused(predictor: Predictor, changed: Any, expected: str) -> None:
    with pytest.raises(UserError, match=expected) as refusal:
        predictor.predict([record(seed=1), changed(record(seed=7))])
    assert str(refusal.value).startswith("record-7: ") and "\n" not in str(refusal.value)


def test_a_model_that_was_trained_on_padded_records_takes_shorter_ones(make_bundle: Any) -> None:
    pads = Predictor([make_bundle(input_format=InputFormat(LEADS, 100.0, 10.0, True, 1000, 500, "mean"))])
    short = record(seconds=6.0)
    padded = replace(short, signal=np.pad(short.signal, ((0, 0), (0, 400))))
    found = pads.predict([short])
    assert found.probabilities == pytest.approx(pads.predict([padded]).probabilities, abs=1e-9)
    assert found.cautions == (("6 s long: the 10 s that the model reads end in 0 mV",),)
    with pytest.raises(UserError, match="the record is 4 s long; this model needs at least 5 s"):
        pads.predict([record(seconds=4.0)])


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_a_long_record_is_a_timeline_of_windows(make_bundle: Any, aggregate: str) -> None:
    bundle = make_bundle(input_format=InputFormat(LEADS, 100.0, 10.0, False, 1000, 500, aggregate))
    predictor, long = Predictor([bundle]), record(seconds=34.0)
    found = predictor.predict([record(seed=5), long])
    assert found.start_s[1].tolist() == [0, 10, 20, 24] and len(found.windows[0]) == 1
    pieces = [replace(long, signal=long.signal[:, s * 100 : s * 100 + 1000]) for s in (0, 10, 20, 24)]
    each = predictor.predict(pieces)
    assert found.windows[1] == pytest.approx(each.probabilities, abs=1e-6)
    signal = np.concatenate([predictor.prepare(piece).signal for piece in pieces])
    raw = predict_windows(bundle, signal)[0]
    together = raw.max(axis=0) if aggregate == "max" else raw.mean(axis=0)
    assert found.probabilities[1] == pytest.approx(bundle.calibration.transform(together[None])[0], abs=1e-9)


def test_several_bundles_answer_with_the_mean_of_their_probabilities(make_bundle: Any) -> None:
    bundles = [make_bundle(seed) for seed in (0, 1, 2)]
    records = [record(seed=s) for s in range(6)]
    each = np.stack([Predictor([b]).predict(records).probabilities for b in bundles])
    found = Predictor(bundles).predict(records)
    assert found.probabilities == pytest.approx(each.mean(axis=0), abs=1e-9)
    expected = entropy(each.mean(axis=0), False) - entropy(each, False).mean(axis=0)
    assert found.entropy.epistemic == pytest.approx(expected, abs=1e-9) and (expected > 1e-4).all()
    alone = np.mean([np.diff(Predictor([b]).predict(records).intervals, axis=-1) for b in bundles])
    assert np.diff(found.intervals, axis=-1).mean() > alone, "members that differ widen the interval"
    assert Predictor(bundles).alphas == () and found.alpha is None, "no threshold was fitted to their mean"
    assert set(found.sets) == {Predictor(bundles).classes}
    fewer = make_bundle(input_format=InputFormat(LEADS, 100.0, 5.0, False, 500, 250, "mean"))
    with pytest.raises(UserError, match="differ in length of a record"):
        Predictor([bundles[0], fewer])


def test_norms_that_are_part_of_their_convolutions_change_no_answer() -> None:
    (bundle,) = load_bundle("synthetic").bundles
    x = torch.randn(4, 12, 1000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(bundle.inference_model(x), bundle.model(x), atol=1e-5, rtol=1e-5)
    norms = [[isinstance(m, torch.nn.BatchNorm2d) for m in n.modules()] for n in (bundle.model, bundle.inference_model)]
    assert any(norms[0]) and not any(norms[1])


def test_dropout_draws_depend_on_their_seed_alone_and_leave_the_network_as_it_was(make_bundle: Any) -> None:
    bundle, records = make_bundle(), [record(seed=s) for s in range(4)]
    sure = Predictor([bundle]).predict(records)
    drawn = [Predictor([bundle], draws=6, seed=s).predict(records) for s in (0, 0, 1)]
    assert drawn[0].probabilities.tolist() == drawn[1].probabilities.tolist()
    assert drawn[0].probabilities.tolist() != drawn[2].probabilities.tolist()
    assert drawn[0].alpha is None and sure.alpha == 0.1
    assert (drawn[0].entropy.epistemic > 0).all() and (sure.entropy.epistemic == 0).all()
    assert not any(module.training for module in (*bundle.model.modules(), *bundle.inference_model.modules()))
    assert Predictor([bundle]).predict(records).probabilities.tolist() == sure.probabilities.tolist()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    Predictor([bundle], draws=2).predict(records)
    assert torch.equal(torch.rand(1), expected)
    plain = make_bundle(network={**TWO, "options": {**TWO["options"], "dropout": 0.0}})
    with pytest.raises(UserError, match="no dropout"):
        Predictor([plain], draws=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_get_a_caution(make_bundle: Any, value: float) -> None:
    signal = record().signal.copy()
    signal[[1, 6], 10:15] = value
    found = Predictor([make_bundle()]).predict([replace(record(), signal=signal)])
    assert found.cautions == (("10 samples of II V1 are invalid: the model reads 0 mV there",),)


def test_what_is_unlike_the_training_data_gets_a_caution(make_bundle: Any, with_familiarity: Any) -> None:
    predictor = Predictor([with_familiarity(make_bundle())])
    rng = np.random.default_rng(9)

    def noise(size: float) -> Record:
        return Record(rng.normal(0, size, (12, 1000)).astype(np.float32), 100.0, LEADS, "noise")

    like, unlike = predictor.predict([noise(0.3) for _ in range(20)]), predictor.predict([noise(3.0), record()])
    assert np.median(like.familiar) > 0.15 and (unlike.familiar < 0.02).all()
    assert unlike.familiar == pytest.approx(1 / 61)  # as far as none of the 60
    assert Predictor([make_bundle()]).predict([record()]).cautions == ((),)
