"""ECG paper: true to scale, and the trace is the signal."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.ecg_paper import LAYOUT, ecg_paper_figure, examples_figure


def wave(seconds: float = 10.0, fs: float = 100, amplitude: float = 0.8) -> np.ndarray:
    """Every lead another sine, so that a swapped lead or a wrong time shows."""
    t = np.arange(round(seconds * fs)) / fs
    return amplitude * np.sin(2 * np.pi * np.outer(0.4 + 0.1 * np.arange(12), t) + np.arange(12)[:, None])


def lines(figure: Figure, label: str) -> list[np.ndarray]:
    return [line.get_xydata() for line in figure.axes[0].get_lines() if line.get_label() == label]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_page_is_a4_and_its_coordinates_are_millimetres() -> None:
    figure = ecg_paper_figure(wave(), 100, title="A")
    assert figure.get_size_inches() * 25.4 == pytest.approx([297, 210])
    figure.savefig(buffer := io.BytesIO(), format="png")
    data = buffer.getvalue()
    size = [int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")]
    assert size == pytest.approx([297 / 25.4 * 150, 210 / 25.4 * 150], abs=1)
    # One unit of the data is one millimetre of paper in both directions, at any resolution.
    for dpi in (72, 300):
        figure = ecg_paper_figure(wave(), 100, title="A", dpi=dpi)
        to_pixels = figure.axes[0].transData.transform
        moved = to_pixels((31, 21)) - to_pixels((30, 20))
        assert moved == pytest.approx([dpi / 25.4, dpi / 25.4])


def test_no_trace_crosses_the_name_of_its_lead() -> None:
    fs = 500
    t = np.arange(10 * fs) / fs
    beat = np.exp(-(((t % 0.8) - 0.1) ** 2) / (2 * 0.01**2))
    for size in (0.3, 1.2, 1.5, -2.4, 2.9):
        figure = ecg_paper_figure(np.tile(size * beat, (12, 1)), fs, title="A")
        figure.canvas.draw()
        to_mm = figure.axes[0].transData.inverted().transform
        for lead in LEADS:
            boxes = [to_mm(text.get_window_extent()) for text in figure.axes[0].texts if text.get_text() == lead]
            for (left, bottom), (right, top) in boxes:
                for trace in lines(figure, lead):
                    beside = trace[(trace[:, 0] > left) & (trace[:, 0] < right), 1]
                    is_crossed = beside.size and beside.max() > bottom and beside.min() < top
                    assert not is_crossed or abs(trace[:, 1].mean() - bottom) > 20, (size, lead)


def test_the_measurements_stand_between_title_and_subtitle() -> None:
    figure = ecg_paper_figure(wave(), 100, title="A", subtitle="B", measured="QRS 90 ms")
    heights = {text.get_text(): text.get_position()[1] for text in figure.axes[0].texts}
    assert heights["A"] > heights["QRS 90 ms"] > heights["B"] > 190
    assert "QRS 90 ms" not in texts(ecg_paper_figure(wave(), 100, title="A"))


def assert_on_paper(figure: Figure) -> None:
    """Every text is within the paper, whose edges are 8.5 mm from those of the page."""
    to_mm = figure.axes[0].transData.inverted().transform
    for text in figure.axes[0].texts:
        (left, _), (right, _) = to_mm(text.get_window_extent())
        assert left > 8.5 - 0.5, text.get_text()
        assert right < 288.5 + 0.5, text.get_text()


@pytest.mark.parametrize("dpi", [72, 100, 150])
def test_long_lines_end_with_the_paper(dpi: int) -> None:
    line = "   ".join(["QTc: QRS of 121 ms is part of QT"] * 8)
    figure = ecg_paper_figure(
        wave(),
        100,
        title=f"$a_$ {line}",
        subtitle=f"{line} S",
        measured=f"W {line}",
        details=f"{line} W",
        foot=[line] * 3,
        dpi=dpi,
    )
    assert_on_paper(figure)
    widths = {text.get_text(): text.get_window_extent().width for text in figure.axes[0].texts}
    # A long line uses the width that there is. With few pixels, the width of letters changes in large steps.
    assert widths[f"{line} S"] / dpi * 25.4 > (0.95 if dpi == 150 else 0.8) * 280


@pytest.mark.parametrize("fs", [100, 500])
def test_traces_are_the_signal_in_millimetres(fs: int) -> None:
    signal = wave(fs=fs)
    figure = ecg_paper_figure(signal, fs, title="A")
    pulses = lines(figure, "calibration")
    assert len(pulses) == 4
    for row, pulse in zip(LAYOUT, pulses, strict=False):
        start, baseline = pulse[-1, 0] + 2.5, pulse[0, 1]
        for column, lead in enumerate(row):
            x, y = lines(figure, lead)[0].T
            first = round(2.5 * column * fs)
            count = min(round(2.5 * fs) + 1, signal.shape[1] - first)
            assert len(x) == count
            np.testing.assert_allclose(x - start, 25 * (first + np.arange(count)) / fs, atol=1e-9)
            np.testing.assert_allclose(y - baseline, 10 * signal[LEADS.index(lead), first : first + count], atol=1e-9)
    x, y = lines(figure, "II")[1].T  # the rhythm strip
    np.testing.assert_allclose(x - x[0], 25 * np.arange(10 * fs) / fs, atol=1e-9)
    np.testing.assert_allclose(y - pulses[3][0, 1], 10 * signal[1], atol=1e-9)


def test_each_lead_is_drawn_once_and_lead_ii_again_as_rhythm() -> None:
    figure = ecg_paper_figure(wave(), 100, title="A")
    for lead in LEADS:
        expected = 2 if lead == "II" else 1
        assert len(lines(figure, lead)) == texts(figure).count(lead) == expected


def test_calibration_pulse_is_10_mm_tall_and_5_mm_wide_and_sits_on_the_grid() -> None:
    figure = ecg_paper_figure(wave(), 100, title="A")
    grid = next(c for c in figure.axes[0].collections if c.get_label() == "grid 5 mm")
    corner = grid.get_segments()[0][0]
    for pulse in lines(figure, "calibration"):
        assert np.ptp(pulse[:, 1]) == 10
        top = pulse[pulse[:, 1] == pulse[:, 1].max()]
        assert np.ptp(top[:, 0]) == 5
        assert (top[:, 0] - corner[0]) % 5 == pytest.approx([0, 0])
        assert (pulse[0, 1] - corner[1]) % 5 == pytest.approx(0)
    # The signal, too, begins on a heavy line.
    assert (lines(figure, "I")[0][0, 0] - corner[0]) % 5 == pytest.approx(0)


@pytest.mark.parametrize("step", [1, 5])
def test_grid_spacing(step: int) -> None:
    figure = ecg_paper_figure(wave(), 100, title="A")
    grid = next(c for c in figure.axes[0].collections if c.get_label() == f"grid {step} mm")
    segments = np.array(grid.get_segments())
    vertical = segments[segments[:, 0, 0] == segments[:, 1, 0]][:, 0, 0]
    horizontal = segments[segments[:, 0, 1] == segments[:, 1, 1]][:, 0, 1]
    np.testing.assert_allclose(np.diff(vertical), step)
    np.testing.assert_allclose(np.diff(horizontal), step)
    assert np.ptp(vertical) == 280 and np.ptp(horizontal) == 180
    assert len(segments) == len(vertical) + len(horizontal)


def test_page_says_title_and_scale() -> None:
    found = texts(ecg_paper_figure(wave(), 100, title="Record $1_2$\udce9", subtitle="sinus rhythm"))
    assert r"Record $1_2$\udce9" in found and "sinus rhythm" in found
    assert any("25 mm/s" in text and "10 mm/mV" in text for text in found)


def test_short_record_shows_its_start_in_every_column() -> None:
    signal = wave(seconds=4)
    figure = ecg_paper_figure(signal, 100, title="A")
    y = lines(figure, "V6")[0][:, 1]
    baseline = lines(figure, "calibration")[2][0, 1]
    np.testing.assert_allclose(y - baseline, 10 * signal[11, :251], atol=1e-9)
    assert len(lines(figure, "II")[1]) == 400
    assert "record of 4.0 s: each lead from its start" in texts(figure)
    assert len(lines(ecg_paper_figure(wave(seconds=0.5), 100, title="A"), "V6")[0]) == 50


def test_long_record_shows_its_first_ten_seconds() -> None:
    figure = ecg_paper_figure(wave(seconds=30), 100, title="A")
    assert len(lines(figure, "II")[1]) == 1001
    assert "first 10 s of 30.0 s" in texts(figure)


def test_large_amplitudes_stay_on_the_paper_and_are_named() -> None:
    signal = wave()
    signal[LEADS.index("V1"), 600] = 40
    signal[LEADS.index("V4"), 900] = -7
    signal[LEADS.index("V5"), 100] = 9  # outside the 2.5 s in which V5 is shown
    figure = ecg_paper_figure(signal, 100, title="A")
    assert "clipped at 3 mV: V1, V4" in texts(figure)
    grid = next(c for c in figure.axes[0].collections if c.get_label() == "grid 5 mm")
    (_, bottom), (_, top) = np.min(grid.get_segments(), axis=(0, 1)), np.max(grid.get_segments(), axis=(0, 1))
    for lead in LEADS:
        for trace in lines(figure, lead):
            assert bottom <= trace[:, 1].min() and trace[:, 1].max() <= top
    assert not any("clipped" in text for text in texts(ecg_paper_figure(wave(amplitude=2.9), 100, title="A")))


def test_missing_samples_are_left_blank_and_a_missing_lead_is_named() -> None:
    signal = wave()
    signal[LEADS.index("V2")] = np.nan
    signal[LEADS.index("I"), 10:20] = np.nan
    figure = ecg_paper_figure(signal, 100, title="A")
    assert "no signal: V2" in texts(figure)
    assert np.isnan(lines(figure, "I")[0][10:20, 1]).all()
    figure.savefig(io.BytesIO(), format="png")


@pytest.mark.parametrize("leads", [("I",), ("V2", "I", "II"), LEADS[:4]])
def test_up_to_four_leads_have_a_row_of_ten_seconds_each(leads: tuple[str, ...]) -> None:
    signal = wave()[: len(leads)]
    figure = ecg_paper_figure(signal, 100, title="A", leads=leads)
    heights = []
    for lead, mv in zip(leads, signal, strict=True):
        (trace,) = lines(figure, lead)
        assert len(trace) == 1000 and trace[-1, 0] - trace[0, 0] == pytest.approx(9.99 * 25)
        baseline = trace[:, 1] - 10 * mv
        assert np.ptp(baseline) < 1e-9
        heights.append(baseline[0])
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == len(leads)


def test_of_five_to_eleven_leads_the_other_places_stay_empty() -> None:
    leads = ("I", "III", "V1", "V2", "V6")
    figure = ecg_paper_figure(wave()[:5], 100, title="A", leads=leads)
    assert [len(lines(figure, lead)) for lead in leads] == [2, 1, 1, 1, 1]  # without II, I is the rhythm strip
    assert not any(lines(figure, lead) for lead in set(LEADS) - set(leads))
    whole = ecg_paper_figure(wave(), 100, title="A")
    assert lines(figure, "V6")[0][0, 0] == pytest.approx(lines(whole, "V6")[0][0, 0])


@pytest.mark.parametrize(("n", "across", "down"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 2, 2)])
def test_examples_are_at_the_same_scale(n: int, across: int, down: int) -> None:
    signals = np.stack([wave(amplitude=0.2 * (i + 1)) for i in range(n)])
    titles = [f"example {i}" for i in range(n)]
    figure = examples_figure(signals, 100, titles)
    width, height = figure.get_size_inches() * 25.4
    assert (width, height) == pytest.approx((across * 283 + 8, down * 123 + 10))
    to_pixels = figure.axes[0].transData.transform
    assert to_pixels((1, 1)) - to_pixels((0, 0)) == pytest.approx([100 / 25.4, 100 / 25.4])
    assert [text for text in texts(figure) if text.startswith("example")] == titles
    pulses = lines(figure, "calibration")
    assert len(pulses) == 3 * n
    for i in range(n):
        trace = lines(figure, "I")[i]
        np.testing.assert_allclose(trace[:, 1] - pulses[3 * i][0, 1], 10 * signals[i, 0, :251], atol=1e-9)
        assert trace[:, 0].min() > 0 and trace[:, 0].max() < width


def test_nonsense_is_refused_with_a_sentence() -> None:
    with pytest.raises(UserError, match=r"\(12, T\).*\(1000, 12\)"):
        ecg_paper_figure(np.zeros((1000, 12)), 100, title="A")
    with pytest.raises(UserError, match="positive, found 0 Hz"):
        ecg_paper_figure(wave(), 0, title="A")
    with pytest.raises(UserError, match="1 titles for 2 records"):
        examples_figure(np.zeros((2, 12, 1000)), 100, ["A"])
    with pytest.raises(UserError, match="0 records"):
        examples_figure(np.zeros((0, 12, 1000)), 100, [])


def test_a_real_record_is_drawn() -> None:
    wfdb = pytest.importorskip("wfdb")
    root = os.environ.get("EINTHOVEN_REAL_DATA")
    if not root:
        pytest.skip("EINTHOVEN_REAL_DATA is not set: no real records to draw")
    header = min((Path(root) / "ptbxl" / "records100").rglob("*.hea"))
    record = wfdb.rdrecord(str(header.with_suffix("")))
    figure = ecg_paper_figure(record.p_signal.T, record.fs, title=record.record_name)
    np.testing.assert_allclose(np.diff(lines(figure, "II")[1][:, 1]), 10 * np.diff(record.p_signal[:, 1]), atol=1e-9)
