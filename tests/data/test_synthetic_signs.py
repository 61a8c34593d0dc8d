"""Textbook signs, measured on noise-free signals and on the wave masks."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from einthoven.data.synthetic.build import draw_build, normal_heart
from einthoven.data.synthetic.compose import FS, MARGIN, Recording, _form_statements, compose
from einthoven.data.synthetic.conditions import Patient
from einthoven.data.synthetic.fitted import lead_factors
from einthoven.data.synthetic.generate import generate
from einthoven.data.synthetic.leadfield import FROM_ELECTRODES, lead_field
from einthoven.data.synthetic.noise import TO_ELECTRODES
from einthoven.data.synthetic.render import P_BIT, QRS_BIT, T_BIT, Complex, Wave, draw_mask
from einthoven.data.synthetic.rhythm import NORMAL, VENTRICULAR, draw_beats
from einthoven.functional.vectorcardiogram import DOWER, INDEPENDENT_LEADS

Array = NDArray[np.float64]
LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVL", "aVF")


def recordings(codes: dict[str, float], rhythm: str, n: int = 16, **patient: float) -> list[Recording]:
    """Records of different patients with the same conditions (and rhythm, where one is asked for)."""
    out: list[Recording] = []
    seed = 0
    while len(out) < n:
        rng = np.random.default_rng([7, seed])
        seed += 1
        who = Patient(seed, 55, bool(seed % 2), dict(codes), likelihood=dict.fromkeys(codes, 100.0), **patient)
        record = compose(rng, who, draw_build(rng, 55, who.female), rhythm)
        if "BIGU" not in record.statements:
            out.append(record)
    return out


def runs(mask: NDArray[np.uint8], bit: int) -> list[tuple[int, int]]:
    """First and past-the-last sample of each stretch with the bit that lies wholly inside the record."""
    edges = np.diff(((mask & bit) > 0).astype(int))
    starts, stops = np.flatnonzero(edges == 1) + 1, np.flatnonzero(edges == -1) + 1
    stops = stops[stops > starts[0]]
    return list(zip(starts, stops, strict=False))


def duration(record: Recording, bit: int) -> float:
    return float(np.median([b - a for a, b in runs(record.mask(FS), bit)])) / FS


def beat(record: Recording) -> dict[str, Array]:
    """QRS-aligned median of the normally conducted beats, baseline before QRS removed; 0 at QRS onset."""
    x = record.leads[:, MARGIN:-MARGIN].astype(float)
    normal = record.beats.onset[record.beats.kind == NORMAL]
    at = np.round(normal[(normal > 0.2) & (normal < 9.4)] * FS).astype(int)
    cut = np.median([x[:, a - 20 : a + 260] - x[:, a - 16 : a - 10].mean(1, keepdims=True) for a in at], axis=0)[:, 20:]
    named = dict(zip(LEADS, cut, strict=False))
    return named | {"III": cut[1] - cut[0], "aVL": cut[0] - cut[1] / 2, "aVF": cut[1] - cut[0] / 2}


def of(records: list[Recording], lead: str, start: float, stop: float) -> Array:
    """(n, T) of one lead between two times in seconds after QRS onset."""
    return np.array([beat(r)[lead][int(start * FS) : int(stop * FS)] for r in records])


@pytest.fixture(scope="module")
def normal() -> list[Recording]:
    return recordings({"NORM": 0.5}, "SR")


def test_normal_intervals_and_progression(normal: list[Recording]) -> None:
    for r in normal:
        assert 0.065 <= duration(r, QRS_BIT) <= 0.115
        assert 0.11 <= r.shapes[False].pr <= 0.20
        assert "SR" in r.statements
    v1, v4 = of(normal, "V1", 0, 0.1), of(normal, "V4", 0, 0.1)
    assert np.median(v1.max(1)) < 0.5 * np.median(-v1.min(1))  # rS in V1
    assert np.median(v4.max(1)) > np.median(v1.max(1)) * 2  # R grows towards V4
    assert np.median(of(normal, "V5", 0.2, 0.4).max(1)) > 0.15  # upright T


def test_left_bundle_branch_block() -> None:
    block = recordings({"CLBBB": 0.5}, "SR")
    assert all(duration(r, QRS_BIT) >= 0.12 for r in block)
    v1, v6 = of(block, "V1", 0, 0.17), of(block, "V6", 0, 0.17)
    assert (v1.sum(1) < 0).all()
    assert np.mean(v6.sum(1) > 0) > 0.9
    assert np.mean(of(block, "V6", 0, 0.02).min(1) > -0.05) > 0.9  # no septal q
    secondary = of(block, "V6", 0.25, 0.42).mean(1)
    assert np.median(secondary) < 0.02  # T against QRS


def test_right_bundle_branch_block(normal: list[Recording]) -> None:
    block = recordings({"CRBBB": 0.5}, "SR")
    assert all(duration(r, QRS_BIT) >= 0.12 for r in block)
    assert np.mean(of(block, "V1", 0.08, 0.15).max(1) > 0.1) > 0.9  # r'
    assert np.median(of(block, "I", 0.08, 0.15).min(1)) < -0.1  # late S
    incomplete = recordings({"IRBBB": 0.5}, "SR")
    assert all(0.09 <= duration(r, QRS_BIT) < 0.12 for r in incomplete)


@pytest.mark.parametrize(("code", "low", "high"), [("LAFB", -90, -30), ("LPFB", 90, 140)])
def test_fascicular_blocks_turn_the_axis(code: str, low: float, high: float) -> None:
    assert all(low <= r.axis <= high for r in recordings({code: 0.5}, "SR"))


def test_inferior_infarct_has_q_waves_inferiorly_and_not_laterally(normal: list[Recording]) -> None:
    infarct = recordings({"IMI": 0.9}, "SR")
    for lead in ("II", "III", "aVF"):
        q, q0 = (np.median(-of(r, lead, 0, 0.04).min(1)) for r in (infarct, normal))
        assert q > q0 + 0.06, lead
    v6, v60 = (np.median(-of(r, "V6", 0, 0.04).min(1)) for r in (infarct, normal))
    assert abs(v6 - v60) < 0.06


def test_anterior_infarct_loses_r_in_v2_v3(normal: list[Recording]) -> None:
    infarct = recordings({"ASMI": 0.9}, "SR")
    for lead in ("V2", "V3"):
        assert np.median(of(infarct, lead, 0, 0.1).max(1)) < 0.5 * np.median(of(normal, lead, 0, 0.1).max(1))
    inferior = [np.median(of(r, "aVF", 0, 0.1).max(1)) for r in (infarct, normal)]
    assert inferior[0] > 0.5 * inferior[1]


def test_fresh_infarct_elevates_st_over_it_and_depresses_it_opposite() -> None:
    fresh, old = recordings({"IMI": 0.8}, "SR", stage=0.8), recordings({"IMI": 0.8}, "SR")
    change = {
        lead: np.median(of(fresh, lead, 0.12, 0.16).mean(1) - of(old, lead, 0.12, 0.16).mean(1)) for lead in LEADS
    }
    assert change["III"] > 0.05
    assert change["aVL"] < -0.03


def test_ischemia_depresses_st_and_inverts_t_in_its_leads(normal: list[Recording]) -> None:
    ischemic = recordings({"ISCLA": 0.8}, "SR")
    assert np.median(of(ischemic, "V6", 0.12, 0.16).mean(1)) < np.median(of(normal, "V6", 0.12, 0.16).mean(1)) - 0.02
    assert np.median(of(ischemic, "V6", 0.24, 0.34).mean(1)) < 0.0
    flat = recordings({"NDT": 0.5}, "SR")
    assert np.median(of(flat, "V5", 0.2, 0.4).max(1)) < 0.6 * np.median(of(normal, "V5", 0.2, 0.4).max(1))


def test_left_ventricular_hypertrophy_has_high_voltages(normal: list[Recording]) -> None:
    def sokolow(records: list[Recording]) -> Array:
        r = np.maximum(of(records, "V5", 0, 0.12).max(1), of(records, "V6", 0, 0.12).max(1))
        return np.asarray(r - of(records, "V1", 0, 0.12).min(1))

    thick = sokolow(recordings({"LVH": 0.6}, "SR"))
    assert np.median(thick) > 1.35 * np.median(sokolow(normal))
    assert np.mean(thick > 3.5) > 0.3
    assert np.mean(sokolow(normal) > 3.5) < 0.15


@pytest.mark.parametrize(
    ("amplitudes", "female", "expected"),
    [
        # Cornell: R in aVL plus S in V3, above 2.8 mV in men and 2.0 mV in women. R in aVL is that of I here.
        ({"I": 0.5, "V3": -2.4}, False, True),
        ({"I": 0.5, "V3": -2.2}, False, False),
        ({"I": 0.5, "V3": -2.2}, True, True),
        # Sokolow-Lyon: S in V1 plus R in V5 or V6, above 3.5 mV.
        ({"V1": -1.5, "V5": 2.1}, False, True),
        ({"V1": -1.5, "V6": 2.1}, False, True),
        ({"V1": -1.5, "V5": 1.9, "V2": -3.0, "V4": 3.0}, False, False),
    ],
)
def test_voltage_criteria_of_hypertrophy(amplitudes: dict[str, float], female: bool, expected: bool) -> None:
    one = np.ones(1)
    leads = np.array([[amplitudes.get(lead, 0.0) for lead in INDEPENDENT_LEADS]])
    qrs = Wave(0.04 * one, 0.01 * one, 0.01 * one, leads, 0 * leads)
    shape = Complex(None, qrs, qrs, pr=0.16, p_duration=0.1, qrs_duration=0.1, qtc=0.4)
    rng = np.random.default_rng(0)
    heart = normal_heart(rng, draw_build(rng, 60, female))
    statements = _form_statements(rng, Patient(1, 60, female, {"LVH": 0.5}), heart, shape)
    assert ("VCLVH" in statements) == expected


def test_right_ventricular_hypertrophy_has_tall_r_in_v1(normal: list[Recording]) -> None:
    thick = recordings({"RVH": 0.7}, "SR")
    assert np.median(of(thick, "V1", 0, 0.1).max(1)) > 2 * np.median(of(normal, "V1", 0, 0.1).max(1))
    assert np.median([r.axis for r in thick]) > 80


def test_atrioventricular_conduction() -> None:
    for r in recordings({"1AVB": 0.5}, "SR"):
        mask = r.mask(FS)
        p, qrs = (np.array([a for a, _ in runs(mask, bit)]) for bit in (P_BIT, QRS_BIT))
        pr = [qrs[qrs > a][0] - a for a in p if (qrs > a).any()]
        assert np.median(pr) / FS > 0.2
    for r in recordings({"WPW": 0.5}, "SR"):
        assert r.shapes[False].pr < 0.12
        assert duration(r, QRS_BIT) > 0.1


def test_atrial_fibrillation_has_no_p_and_irregular_beats(normal: list[Recording]) -> None:
    flickering = recordings({"NDT": 0.5}, "AFIB", n=10)
    for r in flickering:
        assert not (r.mask(FS) & P_BIT).any()
        rr = np.diff([a for a, _ in runs(r.mask(FS), QRS_BIT)])
        assert rr.std() / rr.mean() > 0.08
    steady = [np.diff(r.beats.onset[r.beats.kind == NORMAL]) for r in normal if set(r.beats.kind) == {NORMAL}]
    assert np.median([rr.std() / rr.mean() for rr in steady]) < 0.05
    assert all((r.mask(FS) & P_BIT).any() for r in normal)


def test_paced_and_premature_beats_are_wide_without_p() -> None:
    for r in recordings({"NDT": 0.5}, "PACE", n=3):
        assert r.shapes[False].qrs_duration > 0.14
        assert not (r.mask(FS) & P_BIT).any()
        assert set(r.statements) <= {"PACE", "PVC"}
    premature = [r for r in recordings({"NDT": 0.5}, "SR", n=60) if "PVC" in r.statements]
    assert premature
    for r in premature:
        assert r.shapes[True].qrs_duration > 0.12
        early = np.flatnonzero(r.beats.kind == VENTRICULAR)
        assert not r.beats.p_wave[early].any()
        gaps = np.diff(r.beats.onset)
        assert (gaps[early - 1] < 0.85 * np.median(gaps[r.beats.kind[1:] == NORMAL])).mean() > 0.7


@pytest.mark.parametrize(("rhythm", "low", "high"), [("SBRAD", 40, 60), ("SR", 48, 102), ("STACH", 99, 200)])
def test_rates_agree_with_the_rhythm_statement(rhythm: str, low: float, high: float) -> None:
    for r in recordings({"NORM": 0.5}, rhythm, n=6):
        rate = 60 / np.median(np.diff(r.beats.onset))
        assert low <= rate <= high


def test_pr_and_qrs_keep_their_seconds_and_qt_follows_fridericia() -> None:
    slow, fast = (recordings({"NORM": 0.5}, rhythm, n=6) for rhythm in ("SBRAD", "STACH"))
    for group in (slow, fast):
        for r in group:
            mask, shape = r.mask(FS), r.shapes[False]
            p, qrs = runs(mask, P_BIT), runs(mask, QRS_BIT)
            for a, b in qrs[1:-1]:
                assert (b - a) / FS == pytest.approx(shape.qrs_duration, abs=0.0041)
                before = [s for s, _ in p if 0 < a - s < 0.25 * FS]
                if before:
                    assert (a - before[-1]) / FS == pytest.approx(shape.pr, abs=0.0041)
            at = [(i, t) for i, t in enumerate(r.beats.onset) if 0.5 < t < 9 and set(r.beats.kind) == {NORMAL}]
            for i, t in at:
                end = [b for a, b in runs(mask, T_BIT) if t * FS < a < (t + 0.6) * FS]
                expected = shape.qtc * r.beats.rr[i] ** (1 / 3)
                if end and r.beats.onset[i + 1] - t > expected:
                    assert end[0] / FS - t == pytest.approx(expected, abs=0.0041)


def test_masks_sit_on_the_waves() -> None:
    made = generate(25, seed=9, rates=(500,), noise=0.0)
    for x, mask, rec in zip(made.clean, made.masks[500], made.recordings, strict=True):
        steep = np.abs(np.gradient(x, axis=1)).sum(0) ** 2
        inside = (mask & QRS_BIT) > 0
        assert steep[inside].sum() / steep.sum() > 0.85 or rec.rhythm == "AFLT"
    # The two rates describe the same extents.
    both = generate(5, seed=9, rates=(100, 500), noise=0.0)
    assert np.mean(both.masks[100] == both.masks[500][:, ::5]) > 0.97


def test_a_t_wave_ends_at_the_next_qrs_at_the_latest() -> None:
    (record,) = recordings({"NORM": 0.5}, "SR", n=1)
    for next_onset, end in ((np.inf, 1.0 + record.shapes[False].qtc), (1.3, 1.3)):
        mask = np.zeros(1000, np.uint8)
        one = np.ones(1)
        draw_mask(mask, record.shapes[False], one, one, np.array([False]), np.array([next_onset]), FS)
        assert runs(mask, T_BIT)[-1][1] == int(np.floor(end * FS)) + 1


def test_breathing_moves_the_rate_in_sinus_arrhythmia() -> None:
    def spread(rhythm: str) -> float:
        rng = np.random.default_rng(1)
        beats = [draw_beats(rng, rhythm, 65.0, 30) for _ in range(40)]
        return float(np.median([np.diff(b.onset).std() / np.diff(b.onset).mean() for b in beats]))

    assert spread("SARRH") > 0.06 > spread("SR")


def test_lead_field_is_dower_at_the_centre_and_local_elsewhere() -> None:
    centre, septal, lateral = lead_field(np.array([[0.0, 0, 0], [-1.5, 1, -3], [5, 0, 1]]))
    assert np.allclose(centre / lead_factors()[:, None], DOWER)
    strength = {
        name: np.linalg.norm(f, axis=1) / np.linalg.norm(DOWER, axis=1) for name, f in (("s", septal), ("l", lateral))
    }
    assert strength["s"][2] > 1.3 > strength["s"][7]
    assert strength["l"][7] > 1.3 > strength["l"][2]
    assert np.linalg.matrix_rank(np.concatenate([centre, septal, lateral], axis=1)) == 8


def test_electrodes_and_leads_are_inverse() -> None:
    assert np.allclose(FROM_ELECTRODES @ TO_ELECTRODES, np.eye(8))
    assert np.allclose(FROM_ELECTRODES.sum(1), 0)  # a potential common to all electrodes is not seen
