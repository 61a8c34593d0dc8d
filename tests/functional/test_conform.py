"""Resampling and windows: properties, closed forms, and PTB-XL's own two rates."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import freqz

from einthoven.data import read_record
from einthoven.errors import UserError
from einthoven.functional import conform
from einthoven.functional.conform import cut_record, rate_ratio, resample
from einthoven.functional.leads import derive_limb_leads


def sines(fs: float, seconds: float, frequencies: list[float]) -> np.ndarray:
    t = np.arange(round(seconds * fs)) / fs
    return np.stack([np.sin(2 * np.pi * f * t + f) for f in frequencies])


@pytest.mark.parametrize(("fs", "target"), [(500, 100), (1000, 100), (257, 100), (100, 500), (360, 500), (128, 100)])
def test_a_sine_below_both_nyquists_passes(fs: float, target: float) -> None:
    frequencies = [1.0, 7.3, 20.0]
    found, expected = resample(sines(fs, 10, frequencies), fs, target), sines(target, 10, frequencies)
    assert found.shape == expected.shape
    inside = slice(target, -target)
    np.testing.assert_allclose(found[:, inside], expected[:, inside], atol=5e-3)


def test_what_would_be_an_alias_is_removed() -> None:
    found = resample(sines(500, 10, [70.0, 130.0, 240.0]), 500, 100)  # plain decimation would show 30, 30 and 40 Hz
    assert np.abs(found[:, 50:-50]).max() < 5e-3


RATES = [(250, 100), (257, 100), (360, 100), (400, 100), (500, 100), (1000, 100), (976.5625, 100), (128, 100)]
RATES += [(500, 250), (1000, 500), (400, 250), (333.3333, 100)]


@pytest.mark.parametrize(("fs", "target"), RATES)
def test_a_tone_passes_up_to_0_8_and_nothing_is_left_from_1_04(fs: float, target: float) -> None:
    """The amplitude of a tone is measured at its frequency, or at that of its alias, by least squares."""
    nyquist = target / 2
    passed = np.linspace(0.02, 0.8, 9) * nyquist
    stopped = np.array([1.04, 1.05, 1.1, 1.15, 1.3, 1.7, 1.95, 2.02]) * nyquist
    stopped = stopped[stopped < fs / 2]
    tones = np.concatenate([passed, stopped])
    found = resample(sines(fs, 20, tones.tolist()), fs, target)[:, int(target) : -int(target)]
    t = np.arange(found.shape[1]) / target + int(target) / target
    for frequency, signal in zip(tones, found, strict=True):
        waves = np.stack([np.cos(2 * np.pi * frequency * t), np.sin(2 * np.pi * frequency * t)], axis=1)
        parts = np.linalg.lstsq(waves, signal, rcond=None)[0]
        if frequency <= 0.8 * nyquist:
            assert abs(np.hypot(*parts) - 1) <= 0.005, frequency
        else:
            assert np.hypot(*parts) <= 0.01 and np.abs(signal).max() <= 0.01, frequency


@pytest.mark.parametrize("frequency", [51, 52, 53, 55, 57, 60])
def test_mains_and_muscle_do_not_come_back_as_aliases(frequency: int) -> None:
    found = resample(sines(500, 10, [frequency]), 500, 100)[0, 100:-100]
    most = {51: 0.04}.get(frequency, 0.01)  # 51 Hz is inside of the transition from 40 to 52 Hz
    assert np.abs(found).max() <= most


@pytest.mark.parametrize(("fs", "target"), [*RATES, (100, 500), (100, 250), (90, 100), (250, 257)])
def test_the_filter_has_that_response_by_another_method(fs: float, target: float) -> None:
    """The response of its impulse response is computed by `scipy.signal.freqz`."""
    up, down = rate_ratio(fs, target, 5000)
    taps = conform._low_pass(up, down)
    lower = min(fs, target) / 2
    highest = min(3.0, fs * up / 2 / lower)
    frequencies = np.concatenate([np.linspace(0, 0.8, 50), np.linspace(1.04, highest, 150)]) * lower
    response = np.abs(freqz(taps, worN=frequencies, fs=fs * up)[1])
    assert np.abs(response[:50] - 1).max() <= 0.005
    assert response[50:].max() <= 0.005
    assert len(taps) % 2 == 1 and np.allclose(taps, taps[::-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("fs", "target"), [*RATES, (100, 500)])
def test_a_constant_stays_exactly_constant_and_a_slope_passes_to_the_edges(
    fs: float, target: float, dtype: type[np.floating]
) -> None:
    constants = np.array([[1.5], [-0.3], [1e-3]], dtype)
    found = resample(np.repeat(constants, 3000, axis=1), fs, target)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.repeat(constants, found.shape[1], axis=1))
    t = np.arange(3000) / fs
    slope = resample((0.3 * t - 1)[None], fs, target)[0]
    up, down = rate_ratio(fs, target, 3000)
    np.testing.assert_allclose(slope, 0.3 * np.arange(len(slope)) * down / up / fs - 1, atol=1e-9)


@pytest.mark.parametrize("samples", [1, 2, 3, 7])
def test_a_record_of_a_few_samples(samples: int) -> None:
    found = resample(np.full((12, samples), 0.7), 500, 100)
    np.testing.assert_array_equal(found, np.full((12, -(-samples // 5)), 0.7))


@pytest.mark.parametrize(("fs", "target"), [(500, 100), (1000, 100), (257, 100), (100, 500)])
def test_edges_do_not_ring(fs: float, target: float) -> None:
    """A record that is cut out of a longer one has the same samples, but for a small error at its very ends."""
    rng = np.random.default_rng(5)
    frequencies = rng.uniform(0.2, 30, 40)
    t = np.arange(round(6 * fs)) / fs
    waves = np.cos(2 * np.pi * np.outer(frequencies, t) + rng.uniform(0, 7, (40, 1)))
    signal = (waves / (1 + frequencies[:, None] / 4) ** 2).sum(axis=0)[None]
    whole = resample(signal, fs, target)[0, 2 * int(target) : 4 * int(target)]
    part = resample(signal[:, 2 * int(fs) : 4 * int(fs)], fs, target)[0]
    error = np.abs(whole - part) / np.ptp(whole)
    assert error.max() < 0.02
    inner = round(5 * target / min(fs, target))
    assert error[inner:-inner].max() < 0.002


@given(st.sampled_from([(500, 100), (257, 100), (100, 250)]), st.integers(0, 2**32 - 1))
def test_the_limb_lead_laws_survive(rates: tuple[int, int], seed: int) -> None:
    i, ii = np.random.default_rng(seed).normal(size=(2, 600))
    after = resample(derive_limb_leads(i, ii), *rates)
    np.testing.assert_allclose(derive_limb_leads(after[0], after[1]), after, atol=1e-12)


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 10_000))
def test_the_ratio_keeps_time(fs: int, target: int, samples: int) -> None:
    up, down = rate_ratio(fs, target, samples)
    assert abs(Fraction(up, down) - Fraction(target, fs)) * samples <= Fraction(1, 100)
    if max(Fraction(target, fs).as_integer_ratio()) <= 1000:
        assert (up, down) == Fraction(target, fs).as_integer_ratio()


@given(st.floats(1, 5000), st.floats(1, 5000), st.integers(1, 20_000))
def test_any_two_rates_keep_time_to_half_a_sample_or_are_refused(fs: float, target: float, samples: int) -> None:
    try:
        up, down = rate_ratio(fs, target, samples)
    except UserError as error:
        assert "expected sampling frequencies with a simpler ratio" in str(error)
    else:
        assert max(up, down) <= 100_000
        assert abs(Fraction(up, down) - Fraction(target) / Fraction(fs)) * samples <= Fraction(1, 2)


def test_an_odd_rate_keeps_its_peaks_in_time() -> None:
    fs, target = 333.3333, 100.0
    t = np.arange(20_000) / fs
    peaks = np.arange(0.5, 59.5, 0.8)
    signal = np.exp(-((t[:, None] - peaks) ** 2) / (2 * 0.03**2)).sum(axis=1)[None]
    found = resample(signal, fs, target)[0]
    times = np.arange(found.size) / target
    expected = np.exp(-((times[:, None] - peaks) ** 2) / (2 * 0.03**2)).sum(axis=1)
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.parametrize(("fs", "target"), [(500, 100), (100, 250), (360, 100)])
def test_nan_stays_where_it_was(fs: int, target: int) -> None:
    clean = sines(fs, 10, [1.0, 5.0]).astype(np.float32)
    gap = clean.copy()
    gap[0, 2 * fs : 3 * fs] = np.nan
    gap[1, 4 * fs + 1] = np.nan
    found, expected = resample(gap, fs, target), resample(clean, fs, target)
    assert found.dtype == np.float32
    lost = np.isnan(found)
    times = np.flatnonzero(lost[0]) / target
    near = 1 / min(fs, target)
    assert times[0] == pytest.approx(2, abs=near) and times[-1] == pytest.approx(3, abs=near)
    assert 1 <= lost[1].sum() <= np.ceil(2 * target / fs)
    away = ~lost
    away[0, int(1.8 * target) : int(3.2 * target)] = False  # where the filter reaches into the bridged gap
    away[1, int(3.8 * target) : int(4.2 * target)] = False
    np.testing.assert_allclose(found[away], expected[away], atol=2e-2)
    assert np.isfinite(found[~lost]).all()


def test_a_lead_of_nan_stays_alone() -> None:
    signal = sines(500, 10, [1.0, 2.0])
    signal[1] = np.nan
    found = resample(signal, 500, 100)
    assert np.isnan(found[1]).all() and np.isfinite(found[0]).all()


def test_equal_rates_change_nothing() -> None:
    signal = sines(100, 2, [3.0])
    assert resample(signal, 100, 100.0) is signal


@pytest.mark.parametrize(("fs", "target"), [(0, 100), (-500, 100), (float("nan"), 100), (500, float("inf")), (500, 0)])
def test_rates_that_are_none(fs: float, target: float) -> None:
    with pytest.raises(UserError, match="Hz found; expected a positive number"):
        resample(np.zeros((1, 10)), fs, target)


def test_ptbxl_at_500_hz_becomes_ptbxl_at_100_hz(real_data: Path) -> None:
    """The published 100 Hz records are those at 500 Hz, 1.25 ms (half a sample at 400 Hz) early, as their phase shows.

    As they are, the correlation over the 576 leads here is 0.994 in the median; with that delay undone, 0.9997.
    """
    high = sorted((real_data / "ptbxl" / "records500").rglob("*.hea"))[:16]
    assert len(high) == 16
    early = np.exp(2j * np.pi * np.fft.rfftfreq(1200, 0.01) * 1.25e-3)
    as_is, aligned = [], []
    for header in high:
        name = header.name.replace("_hr", "_lr")
        low = read_record(real_data / "ptbxl" / "records100" / header.parent.name / name)
        record = read_record(header)
        found = resample(record.signal, record.fs, 100)
        assert found.shape == low.signal.shape == (12, 1000)
        padded = np.pad(found.astype(np.float64), ((0, 0), (100, 100)), mode="edge")
        shifted = np.fft.irfft(np.fft.rfft(padded) * early)[:, 100:-100]
        for lead in range(12):
            as_is.append(np.corrcoef(found[lead], low.signal[lead])[0, 1])
            aligned.append(np.corrcoef(shifted[lead, 10:-10], low.signal[lead, 10:-10])[0, 1])
    assert np.median(as_is) > 0.99
    assert np.median(aligned) > 0.999 and min(aligned) > 0.98


@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.sampled_from(["crop", "centre", "slide"]),
    st.data(),
)
def test_windows_are_the_record(have: int, want: int, long: str, data: st.DataObject) -> None:
    fs = 4.0
    stride = data.draw(st.integers(1, want)) / fs
    signal = np.arange(2.0 * have).reshape(2, have) + 1
    windows = cut_record(signal, fs, want / fs, long=long, stride=stride)
    starts = np.rint(windows.start_s * fs).astype(int)
    assert windows.signal.shape == (len(starts), 2, want)
    for window, valid, start in zip(windows.signal, windows.valid_samples, starts, strict=True):
        np.testing.assert_array_equal(window[:, :valid], signal[:, start : start + valid])
        assert not window[:, valid:].any()
        assert valid == min(want, have)
    if long == "slide" and have >= want:
        assert starts[0] == 0 and starts[-1] + want == have
        assert (np.diff(starts) > 0).all() and (np.diff(starts) <= stride * fs).all()
    else:
        assert len(starts) == 1
        assert starts[0] == ((have - want) // 2 if long == "centre" and have > want else 0)


def test_no_length_keeps_the_record() -> None:
    signal = np.ones((3, 7), dtype=np.float32)
    windows = cut_record(signal, 100, None, long="slide")
    np.testing.assert_array_equal(windows.signal, signal[None])
    assert windows.valid_samples.tolist() == [7] and windows.start_s.tolist() == [0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"seconds": 10, "short": "refuse"}, "a.csv: 2 s found, expected at least 10 s."),
        ({"seconds": 0}, "seconds=0 found; expected a positive time"),
        ({"seconds": float("nan")}, "seconds=nan found; expected a positive time"),
        ({"seconds": 1, "stride": -1}, "stride=-1 found; expected a positive time"),
        ({"seconds": 1, "stride": 1.5}, "stride=1.5 s leaves gaps between windows of 1 s"),
        ({"seconds": 1, "long": "wrap"}, "long='wrap' found; expected crop or centre or slide."),
        ({"seconds": 1, "short": "loop"}, "short='loop' found; expected pad or refuse."),
    ],
)
def test_other_rules_are_refused(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        cut_record(np.ones((2, 200)), 100, source="a.csv", **options)


def test_an_empty_record_is_refused() -> None:
    with pytest.raises(UserError, match="no samples found"):
        cut_record(np.ones((12, 0)), 100, 10)
