"""The record doctor: each fault put into records and found, and whole records left alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from einthoven.atomic import PARTIAL
from einthoven.data.doctor import (
    Finding,
    count_findings,
    examine,
    examine_or_load,
    examine_record,
    plausible,
    read_and_examine,
    update_quarantine,
)
from einthoven.data.doctor.examination import _make_block
from einthoven.data.doctor.finding import longest_run
from einthoven.data.doctor.noise import measure_noise
from einthoven.data.doctor.plausible import from_comments
from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.data.store.packed_store import Store
from einthoven.data.synthetic import generate
from einthoven.errors import UserError
from einthoven.functional.conform import resample
from einthoven.functional.leads import LEADS

Float = NDArray[np.float64]


@pytest.fixture(scope="module")
def clean() -> Float:
    """Generated records in mV, 100 Hz, with the noise of practice, of sinus rhythm."""
    made = generate(48, seed=5)
    sinus = [r.rhythm in {"SR", "SBRAD", "STACH"} for r in made.recordings]
    return made.signals[100][sinus] / 1000.0


@pytest.fixture(scope="module")
def real(real_data: Path) -> tuple[Float, list[dict[str, object]]]:
    table = pd.read_csv(real_data / "ptbxl" / "ptbxl_database.csv")
    table = table[table["ecg_id"] % 2 == 0].iloc[::4]  # thresholds were set on odd ones
    return np.stack([read_record(real_data / "ptbxl" / name).signal for name in table["filename_lr"]]).astype(float), []


def part(x: Float, code: str, lead: str = "", fs: float = 100.0) -> float:
    """Part of the records with a finding."""
    found = examine(x, fs)
    return float(np.mean([any(f.code == code and (not lead or lead in f.leads) for f in one) for one in found]))


def only(x: Float, leads: Sequence[str] = LEADS, fs: float = 100.0) -> dict[str, Finding]:
    """Findings of one record, by code."""
    return {finding.code: finding for finding in examine(x[None], fs, leads)[0]}


def arms(x: Float) -> Float:
    """LA and RA exchanged."""
    order = [0, 2, 1, 4, 3, 5, *range(6, 12)]
    return x[:, order] * np.where(np.arange(12) == 0, -1.0, 1.0)[:, None]


def flat(x: Float, lead: str) -> Float:
    return np.where(np.array([name == lead for name in LEADS])[:, None], 0.0, x)


def test_spoilt_real_records_are_found_and_others_left_alone(real: tuple[Float, object]) -> None:
    x = real[0]
    assert len(x) > 150
    for spoilt, code, lead in (
        (arms(x), "swap_la_ra", "I"),
        (1000.0 * x, "unit", ""),
        (flat(x, "V3"), "flat", "V3"),
    ):
        assert part(spoilt, code, lead) >= 0.9
    untouched = examine(x, 100.0)
    alarms = [any(f.code in {"swap_la_ra", "unit", "flat"} for f in found) for found in untouched]
    assert np.mean(alarms) <= 0.02
    serious = [any(f.severity in {"warning", "error"} for f in found) for found in untouched]
    assert np.mean(serious) <= 0.05


def test_spoilt_generated_records_are_found(clean: Float) -> None:
    legs = clean.copy()  # RA/LL
    legs[:, [0, 1, 2, 3, 5]] = np.stack([-clean[:, 2], -clean[:, 1], -clean[:, 0], clean[:, 5], clean[:, 3]], axis=1)
    chest = clean[:, [*range(8), 9, 8, 10, 11]]
    for spoilt, code, lead, least in (
        (arms(clean), "swap_la_ra", "aVR", 0.9),
        (legs, "swap_ra_ll", "II", 0.85),
        (chest, "swap_chest", "V3", 0.8),
        (clean * 1e3, "unit", "", 1.0),
        (clean / 1e3, "unit", "", 1.0),
        (flat(clean, "V3"), "flat", "V3", 1.0),
        (flat(clean, "II"), "swap_ra_rl", "II", 0.9),
    ):
        assert part(spoilt, code, lead) >= least, code
        assert part(clean, code) <= 0.05, code


def test_evidence_names_numbers_and_limits(clean: Float) -> None:
    finding = only(clean[0] * 1000.0)["unit"]
    assert finding.severity == "warning" and finding.value > finding.threshold == 20.0
    assert "taken as µV" in finding.evidence and f"{finding.value:,.0f} mV" in finding.evidence
    finding = only(flat(clean[:1], "V3")[0])["flat"]
    assert finding.severity == "error" and finding.leads == ("V3",)
    assert finding.evidence == "V3 spans 0.000 mV in all; expected 0.02 mV at least"


def test_samples(clean: Float) -> None:
    x = clean[0].copy()
    x[6, :200] = np.nan
    assert only(x)["invalid"].severity == "caution" and only(x)["invalid"].value == pytest.approx(0.2)
    x[6, :600] = np.nan
    assert only(x)["invalid"].severity == "error"
    x = clean[0].copy()
    x[7, 300:420] = x[7, 300]
    assert only(x)["stuck"].leads == ("V2",) and only(x)["stuck"].value == pytest.approx(1.2, abs=0.05)
    x = clean[0].copy()
    x[8] = np.minimum(x[8], np.quantile(x[8], 0.8))
    assert only(x)["clipped"].leads == ("V3",)
    x = clean[0].copy()
    x[8] = np.random.default_rng(0).normal(0.0, 0.2, x.shape[1])
    assert only(x)["disconnected"].leads == ("V3",)
    x = clean[0].copy()
    x[3] *= -1.0
    law = only(x)["limb_law"]
    assert "aVR" in law.leads and "V1" not in law.leads and law.value > law.threshold


def test_longest_run() -> None:
    chosen = np.array([[True, True, False, True, True, True], [False] * 6, [True] * 6])
    assert longest_run(chosen).tolist() == [3, 0, 6]


@pytest.mark.parametrize("what", ["noise", "walk", "zeros"])
def test_what_is_no_ecg(what: str) -> None:
    rng = np.random.default_rng(0)
    white = rng.normal(0.0, 0.2, (20, 12, 1000))
    x = {"noise": white, "walk": np.cumsum(white, axis=-1), "zeros": np.zeros_like(white)}[what]
    assert part(x, "flat" if what == "zeros" else "no_ecg") == 1.0


def test_no_ecg_is_rare_among_ecgs(clean: Float) -> None:
    assert part(clean, "no_ecg") <= 0.03  # several large ectopic beats may hide what repeats


@pytest.mark.parametrize("stated", [250.0, 500.0])
def test_a_wrong_sampling_frequency(clean: Float, stated: float) -> None:
    """Not each record shows it; hardly one of the right sampling frequency seems to."""
    assert part(clean, "fs", fs=stated) > 0.4
    assert part(clean, "fs") < 0.05


def test_a_wrong_sampling_frequency_of_records_whose_qrs_has_no_edges(
    clean: Float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_evidence() -> list[str]:
        return [finding.evidence for one in examine(clean[:8], 500.0) for finding in one if finding.code == "fs"]

    assert any(re.search(r"\d beats per minute, QRS \d+ ms at 500 Hz; expected", text) for text in with_evidence())
    monkeypatch.setattr(plausible, "qrs_duration", lambda beat, fs: np.full(len(beat), np.nan))
    texts = with_evidence()
    assert texts and all(re.search(r"\d beats per minute at 500 Hz; expected", text) for text in texts)


def test_fewer_leads(clean: Float) -> None:
    for leads in (("I",), ("I", "II", "V2"), ("V1", "V2", "V3", "V4", "V5", "V6")):
        rows = [LEADS.index(lead) for lead in leads]
        assert not {"flat", "unit", "limb_law", "no_ecg"} & set(only(clean[0][rows], leads))


@pytest.mark.parametrize("samples", [1, 2, 10, 99, 250])
def test_short_records_are_examined(clean: Float, samples: int) -> None:
    examine(clean[:3, :, :samples], 100.0)
    assert "flat" in only(np.zeros((12, samples)))


def test_records_are_examined_alone(clean: Float) -> None:
    assert examine(clean[:4], 100.0)[2] == examine(clean[2:3], 100.0)[0]


def test_noise_is_measured_in_decibels(clean: Float) -> None:
    """Known amounts of wander, hum and muscle noise on a clean heart, and what cannot be known at 100 Hz."""
    quiet = generate(8, seed=2, rates=(100, 500), noise=0.0)
    x = quiet.signals[500] / 1000.0
    time = np.arange(x.shape[-1]) / 500.0
    power = np.stack([np.square(lead).mean(-1) for lead in x - x.mean(-1, keepdims=True)])
    rng = np.random.default_rng(0)
    for kind, wave in (
        ("baseline", np.sin(2 * np.pi * 0.25 * time)),
        ("powerline", np.sin(2 * np.pi * 50.0 * time + 1.0)),
        ("powerline", np.sin(2 * np.pi * 60.0 * time)),
    ):
        found = getattr(measure_noise(_make_block(x + 0.5 * wave, 500.0, LEADS)), kind)
        expected = 10 * np.log10(power / (0.5 * 0.25))
        assert np.median(np.abs(found - expected)) < 2.5, kind
    louder = [measure_noise(_make_block(x + s * rng.normal(size=x.shape), 500.0, LEADS)).muscle for s in (0.01, 0.1)]
    assert np.median(louder[0] - louder[1]) == pytest.approx(20.0, abs=3.0)
    assert np.isnan(measure_noise(_make_block(quiet.signals[100] / 1000.0, 100.0, LEADS)).powerline).all()


def test_noise_agrees_with_what_readers_noted(real_data: Path) -> None:
    """PTB-XL's remarks on drift and static noise, against decibels: ranked far better than by chance."""
    from sklearn.metrics import roc_auc_score

    table = pd.read_csv(real_data / "ptbxl" / "ptbxl_database.csv").iloc[::4]
    x = np.stack([read_record(real_data / "ptbxl" / name).signal for name in table["filename_lr"]])
    noise = measure_noise(_make_block(x, 100.0, LEADS))
    for column, values in (("baseline_drift", noise.baseline), ("static_noise", noise.muscle)):
        assert roc_auc_score(table[column].notna(), -values.min(axis=1)) > 0.65, column


def test_spikes_of_a_pacemaker() -> None:
    made = generate(12, seed=1, rates=(500,))
    x = made.signals[500] / 1000.0
    block = _make_block(x, 500.0, LEADS)
    spiked = x.copy()
    for row, beats in enumerate(block.beats):
        for beat in beats[beats >= 40]:
            spiked[row, :, beat - 25] += 1.5
    assert part(spiked, "paced", fs=500.0) == 1.0
    unpaced = [r.rhythm != "PACE" for r in made.recordings]
    assert part(x[unpaced], "paced", fs=500.0) == 0.0

    # Half of the sampling frequency leaves a third of the height of a spike above 100 Hz.
    spiked_250, x_250 = (np.stack([resample(row, 500.0, 250.0) for row in signals]) for signals in (spiked, x))
    assert part(spiked_250, "paced", fs=250.0) == 1.0
    assert part(x_250[unpaced], "paced", fs=250.0) == 0.0
    assert part(spiked, "paced", fs=200.0) == 0.0


def test_what_headers_say() -> None:
    assert from_comments(["Age: 7", "Sex: Male", "Dx: 10370003,164889003"]) == (7.0, True)
    age, paced = from_comments(["Age: NaN", "Dx: 426783006"])
    assert np.isnan(age) and not paced
    x = (generate(1, seed=0).signals[100][0] / 1000.0).astype(np.float32)
    found = examine_record(Record(x[:8], 100.0, LEADS[:8], "a", (), ("Age: 7", "Dx: 10370003")))
    codes = {finding.code: finding for finding in found}
    assert {"child", "paced", "missing_leads", "unmeasurable"} <= set(codes)
    assert codes["missing_leads"].leads == LEADS[8:]
    assert "powerline noise" in codes["unmeasurable"].evidence and found[-1].severity == "info"


def test_a_file_with_fewer_leads(write_record, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    x = generate(1, seed=0).signals[100][0]
    record, found = read_and_examine(read_record, write_record(tmp_path, "few", x[:8], leads=LEADS[:8]))
    assert record.leads == LEADS[:8] and "missing_leads" in {finding.code for finding in found}
    with pytest.raises(UserError, match="nowhere"):
        read_and_examine(read_record, tmp_path / "nowhere")


def a_store(folder: Path, x: NDArray[np.int16]) -> Store:
    table = pd.DataFrame(
        {
            "ecg_id": np.arange(1, len(x) + 1),
            "filename_lr": [f"r/{k}_lr" for k in range(1, len(x) + 1)],
            "age": 50.0,
            "invalid_samples": 0,
            "clipped_samples": 0,
            "valid_samples": x.shape[-1],
        }
    )
    none = pd.DataFrame(columns=["ecg_id", "file", "reason"])
    return Store(folder, x, table, 100.0, LEADS, "fingerprint", none)  # an array reads as Signals do


def test_a_store_is_examined_once_and_errors_are_listed(tmp_path: Path) -> None:
    x = generate(6, seed=0).signals[100]
    x[3, 8] = 0
    x[4, :, 500:] = 0  # padding
    store = a_store(tmp_path, x)
    store.table.loc[4, "valid_samples"] = 500
    store.table.loc[0, "age"] = 9.0
    store.table.loc[1, "clipped_samples"] = 3
    store.quarantine.loc[0] = [99, "r/99_lr", "cannot be read"]
    store.quarantine.loc[1] = [4, "r/4_lr", "of last time"]
    found = examine_or_load(store)
    assert found["ecg_id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["severity"][3] == "error" and found["heart_rate"].between(30, 200).all()
    assert found["powerline_db"].isna().all() and found["baseline_db"].notna().all()
    per_code = {(code, severity): n for code, severity, _, n in count_findings(found)}
    assert per_code["flat", "error"] == 1 and per_code["child", "caution"] == 1 and per_code["clipped", "warning"] == 1
    assert "stuck" not in {code for code, _ in per_code}
    listed = update_quarantine(store, found)
    assert listed["file"].tolist() == ["r/99_lr", "r/4_lr"]
    assert listed["reason"][1].startswith("flat: V3 spans 0.000 mV")
    assert pd.read_csv(tmp_path / "quarantine.csv", dtype=str).equals(listed)
    assert update_quarantine(replace(store, quarantine=listed), found).equals(listed)
    written = (tmp_path / "doctor.parquet").stat().st_mtime_ns
    again = examine_or_load(store)
    assert (tmp_path / "doctor.parquet").stat().st_mtime_ns == written
    assert count_findings(again) == count_findings(found)
    (tmp_path / "doctor.parquet").write_bytes(b"damaged")
    assert count_findings(examine_or_load(store)) == count_findings(found)
    assert not list(tmp_path.glob(f"{PARTIAL}*"))


@pytest.mark.parametrize("column", ["path", "name"])
def test_records_of_other_sources_are_listed_by_their_file(tmp_path: Path, column: str) -> None:
    x = generate(3, seed=0).signals[100]
    x[1:, 8] = 0
    store = a_store(tmp_path / "not_there_yet", x)
    table = store.table.drop(columns="filename_lr").assign(**{column: ["a.hea", "b/c.hea", None]})
    store = replace(store, table=table)
    assert update_quarantine(store, examine_or_load(store))["file"].tolist() == ["b/c.hea", "3"]


def test_invalid_samples_of_a_store_do_not_break_the_limb_lead_laws(tmp_path: Path) -> None:
    x = generate(4, seed=0).signals[100]
    gap = slice(100, 400)
    x[0, 0, gap] = 0
    x[1, 4, gap] = 0
    x[2, 4, gap] = 0
    x[3, 3] = -x[3, 3]
    store = a_store(tmp_path, x)
    store.table["invalid_samples"] = [300, 300, 0, 300]
    findings = examine_or_load(store)["findings"]
    broken = ["limb_law" in {finding["code"] for finding in one} for one in findings]
    # The third record has no invalid samples, so that its zeros are voltages.
    assert broken == [False, False, True, True]


def test_a_slow_store_is_not_examined(tmp_path: Path) -> None:
    x = generate(2, seed=0).signals[100]
    store = replace(a_store(tmp_path, x), fs=10.0)
    found = examine_or_load(store)
    assert found["severity"].tolist() == ["error", "error"] and found["heart_rate"].isna().all()
    assert "10 Hz is too slow" in found["findings"][0][0]["evidence"]
