"""The page of reconstructions: each trace, its reconstruction at the same scale, and a shade where it was hidden."""

from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.report.reconstruction import reconstructions_figure


def test_a_reconstruction_lies_on_the_trace_at_the_same_scale() -> None:
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 0.3, (2, 12, 250))
    hidden = np.zeros(signals.shape, bool)
    hidden[0, 1, 50:100] = True
    figure = reconstructions_figure(signals, signals + 0.1, 100.0, ["a", "b"], hidden=hidden, leads=LEADS)
    lines = figure.axes[0].lines
    traces = [line for line in lines if line.get_label() == "II"]
    decoded = [line for line in lines if line.get_label() == "II reconstructed"]
    assert len(traces) == len(decoded) == 2
    for trace, reconstruction in zip(traces, decoded, strict=True):
        np.testing.assert_allclose(trace.get_xdata(), reconstruction.get_xdata())
        # 0.1 mV is 1 mm.
        np.testing.assert_allclose(np.subtract(reconstruction.get_ydata(), trace.get_ydata()), 1.0, atol=1e-9)

    # 0.5 s from 0.5 s on is 12.5 mm of the lead, up to one sample.
    shades = [path for shade in figure.axes[0].collections for path in shade.get_paths() if shade.get_alpha() == 0.12]
    widths = [np.ptp(path.vertices[:, 0]) for path in shades if len(path.vertices)]
    assert len(widths) == 1 and widths[0] == pytest.approx(12.5, abs=0.3)


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="expected those of the signals"):
        reconstructions_figure(np.zeros((1, 12, 9)), np.zeros((1, 12, 8)), 100.0, ["a"], leads=LEADS)
