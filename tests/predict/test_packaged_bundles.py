"""The bundles that come with the package: small, and honest about what they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from einthoven import cli
from einthoven.augment.leads import swap_matrices
from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.data.synthetic import write_synthetic
from einthoven.evaluation.metrics import macro_auroc
from einthoven.predict import PTBXL_BUNDLE, SYNTHETIC_BUNDLE, load_bundle


def test_the_bundle_of_generated_ecgs_is_small_and_says_what_it_was_trained_on() -> None:
    predictor = load_bundle("synthetic")
    assert sum(file.stat().st_size for file in SYNTHETIC_BUNDLE.iterdir()) < 2_000_000
    assert "synthetic ECGs (generated, of no person)" in predictor.notice and "Not for diagnosis" in predictor.notice
    assert predictor.classes == ("CD", "HYP", "MI", "NORM", "STTC") and predictor.alphas == (0.05, 0.1, 0.2)
    (bundle,) = predictor.bundles
    assert bundle.provenance["folds"] == {"train": list(range(1, 9)), "fit": [9]}
    assert bundle.provenance["metrics"]["macro_auroc"] > 0.85
    assert "/" not in str(bundle.provenance["config"]["data.cache"]).removeprefix("…/")
    assert bundle.refusal is None and bundle.attribution == ""


def test_the_bundle_of_real_ecgs_is_small_and_names_its_source() -> None:
    predictor = load_bundle()
    (bundle,) = predictor.bundles
    assert bundle.sha256 == load_bundle("ptbxl").bundles[0].sha256
    assert sum(file.stat().st_size for file in PTBXL_BUNDLE.iterdir()) < 2_000_000
    assert "1,713 ECGs of PTB-XL" in predictor.notice and "Not for diagnosis" in predictor.notice
    assert "Wagner" in predictor.attribution and "CC BY 4.0" in predictor.attribution
    assert predictor.classes[:5] == ("CD", "HYP", "MI", "NORM", "STTC") and predictor.alphas == (0.05, 0.1, 0.2)
    assert bundle.provenance["metrics"]["macro_auroc"] > 0.85
    # It answers with the mean of a network and gradient boosting, which is better than each of them out of fold.
    (member,) = bundle.members
    assert member.weight == bundle.network_weight == 0.5
    assert bundle.mean_classes == 5 and len(member.trees.sums.trees) == 5
    assert bundle.refusal is not None and bundle.refusal.unaltered <= 0.02
    assert {"unit", "swap_la_ra"} <= set(bundle.refusal.findings)
    assert set(bundle.missing_leads) == {"V1", "V2", "V3", "V4", "V5", "V6"}
    assert all(missing.low <= missing.loss <= missing.high for missing in bundle.missing_leads.values())
    assert bundle.ancestry is not None and len(bundle.ancestry.trained) > 1700
    # Nothing names a folder of the machine that trained it.
    config = bundle.provenance["config"]
    assert not [value for value in config.values() if str(value).startswith("/")]
    card = (PTBXL_BUNDLE / "model_card.md").read_text()
    assert "## What the members are worth" in card
    assert "Not a medical device" in card and f"{bundle.provenance['metrics']['macro_auroc']:.3f}" in card


def test_each_class_of_the_bundle_of_real_ecgs_has_meaning_interval_operating_points_and_threshold() -> None:
    predictor = load_bundle("ptbxl")
    (bundle,) = predictor.bundles
    assert list(predictor.groups) == ["superclasses", "rhythms", "statements"]
    assert predictor.groups["rhythms"]["AFIB"] == "atrial fibrillation" and "SR" in predictor.groups["rhythms"]
    assert {"LVH", "IMI", "LAFB", "1AVB"} <= set(predictor.groups["statements"])
    assert all(meaning for meanings in predictor.groups.values() for meaning in meanings.values())
    assert tuple(bundle.points) == predictor.classes
    assert bundle.band is not None and np.isfinite(bundle.band).all()
    for thresholds in bundle.conformal.values():
        assert isinstance(thresholds, tuple)
        # One for each group.
        assert len(thresholds) == len(predictor.classes) and len(set(thresholds)) == 3


def test_atrial_fibrillation_is_told_from_sinus_rhythm_in_other_hospitals(real_data: Path) -> None:
    predictor = load_bundle("ptbxl")
    of_rhythm: dict[str, list[float]] = {"164889003": [], "426783006": []}
    for header in sorted((real_data / "cinc2021").glob("*.hea")):
        codes = header.read_text().split("#Dx:")[1].splitlines()[0].strip().split(",")
        for rhythm, found in of_rhythm.items():
            if rhythm in codes:
                prediction = predictor.predict_prepared([predictor.prepare(header)])
                found.append(float(prediction.probabilities[0, predictor.classes.index("AFIB")]))
    fibrillation, sinus = of_rhythm.values()
    assert min(len(fibrillation), len(sinus)) >= 3
    assert np.mean([a > b for a in fibrillation for b in sinus]) > 0.9


def test_the_bundle_of_real_ecgs_names_a_record_of_its_training(real_data: Path) -> None:
    records = real_data / "ptbxl" / "records100" / "00000"
    answered = load_bundle("ptbxl").predict(sorted(records.glob("*.hea"))[:8])
    assert answered.in_training == (True,) * 8
    assert all("this record was in the training data" in cautions for cautions in answered.cautions)
    other = real_data / "cinc2021"
    assert load_bundle("ptbxl").predict([sorted(other.glob("JS*.hea"))[0]]).in_training == (False,)


def test_real_records_with_another_unit_or_exchanged_arms_are_refused(real_data: Path) -> None:
    predictor = load_bundle("ptbxl")
    files = sorted((real_data / "ptbxl" / "records100").rglob("*.hea"))[:40]
    records = [read_record(file) for file in files]
    (swap,) = swap_matrices(["RA-LA"])
    prepared = [predictor.prepare(replace(r, signal=1000 * r.signal)) for r in records]
    assert all(one.refused is not None and "another unit" in one.refused for one in prepared)
    prepared = [predictor.prepare(replace(r, signal=(swap @ r.signal).astype(np.float32))) for r in records]
    assert np.mean([one.refused is not None for one in prepared]) > 0.9
    unaltered = predictor.predict_prepared([predictor.prepare(record) for record in records])
    assert sum(reason is not None for reason in unaltered.refused) <= 2


def test_it_tells_new_generated_records_apart(tmp_path: Path) -> None:
    from einthoven.data.sources.ptbxl import PTBXL

    write_synthetic(tmp_path / "corpus", records=150, seed=77, rates=(100,))
    source = PTBXL(tmp_path / "corpus", 100, tmp_path, source="synthetic")
    store = source.open()
    labels = source.labels(store.table, "superdiagnostic", single_label=False, keep_unlabelled=False, min_likelihood=0)
    position = {number: row for row, number in enumerate(store.table["ecg_id"])}
    rows = [position[number] for number in labels.ecg_ids]
    records = [Record(store.signals[row] * np.float32(1e-3), 100.0, store.leads, str(row)) for row in rows]
    found = load_bundle("synthetic").predict(records)
    assert macro_auroc(labels.matrix, found.probabilities) > 0.8
    assert np.median(found.familiar) > 0.2, "records of its own kind are familiar"
    missed = [len(t - set(s)) / len(t) for t, s in zip(_names(labels), found.sets, strict=True)]
    assert np.mean(missed) < 0.1 + 3 * np.std(missed) / np.sqrt(len(missed))


def _names(labels: object) -> list[set[str]]:
    matrix, classes = labels.matrix, labels.classes  # type: ignore[attr-defined]
    return [{name for name, label in zip(classes, row, strict=True) if label} for row in matrix]


def test_predict_works_before_any_training(
    tmp_path: Path, write_record: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise = np.rint(np.random.default_rng(0).normal(0, 3000, (12, 1000))).astype(np.int16)
    write_record(tmp_path, "a", noise)  # type: ignore[operator]
    cli.main(["predict", "synthetic", "a.hea"])
    out = capfd.readouterr().out
    assert "a.hea" in out and "synthetic" in out and "Not for diagnosis" in out
    assert "unlike" in out and "no_ecg" in out
    # The bundle of real ECGs gives no answer for noise.
    with pytest.raises(SystemExit) as end:
        cli.main(["predict", "a.hea"])
    err = capfd.readouterr().err
    assert end.value.code == 1 and "a: not answered, because it is unlike the training records" in err


def test_each_file_of_other_databases_is_answered_or_refused_with_a_reason(
    real_data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    files = sorted((real_data / "cinc2021").glob("*.hea"))
    try:
        cli.main(["predict", "ptbxl", str(real_data / "cinc2021"), "--json"])
    except SystemExit as end:
        assert end.code == 1
    found = json.loads(capfd.readouterr().out)
    assert len(found["records"]) + len(found["not_answered"]) == len(files)
    for item in found["records"]:
        assert all(0 <= p <= 1 for p in item["probabilities"].values()) and item["windows"]
    for item in found["not_answered"]:
        assert Path(item["file"]).stem in item["reason"]
    assert len(found["records"]) >= 40
