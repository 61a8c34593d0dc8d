from __future__ import annotations

import numpy as np
import pytest
import torch

from einthoven.augment import leads, noise, time
from einthoven.errors import UserError
from einthoven.report.small_multiples import augmentation_figure, principal_shapes_figure


def test_one_panel_for_each_augmentation() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(12, 500)).cumsum(axis=1) * 0.02
    x, y = torch.from_numpy(signal)[None], torch.zeros(1, 2)
    transforms = {"noise": noise.Noise(), "turned": leads.VCGRotation(), "crop": time.RandomCrop(2.0)}
    augmented = {name: t(x, y, torch.Generator().manual_seed(0))[0][0].numpy() for name, t in transforms.items()} | {
        "as it is": signal
    }
    figure = augmentation_figure(signal, augmented, 100.0, show=("II", "V6"))
    drawn = figure.axes
    assert [axes.get_title(loc="left") for axes in drawn] == list(augmented)
    assert all(len(axes.lines) == 5 for axes in drawn)
    np.testing.assert_allclose(drawn[0].lines[1].get_ydata(), augmented["noise"][1, :400])
    assert len(drawn[2].lines[1].get_ydata()) == 200  # a crop is shorter
    assert [label.get_text() for label in drawn[0].get_yticklabels()] == ["II", "V6"]


def test_a_small_change_can_be_seen() -> None:
    """Mains hum, a lost band and a rotated dipole change a large ECG by little; their changes are drawn large."""
    time_s = np.arange(2000) / 500
    signal = np.sin(2 * np.pi * 1.3 * time_s) * np.linspace(0.5, 2, 12)[:, None]
    factors = np.linspace(1, 2, 12)[:, None]
    augmented = {
        "hum": signal + 0.01 * factors * np.sin(2 * np.pi * 50 * time_s),
        "less": signal * (1 - 0.02 * factors),
        "one sample": signal + 0.05 * factors * (np.arange(2000) == 700),
        "large": signal + 30 * factors,
        "same": signal,
    }
    figure = augmentation_figure(signal, augmented, 500.0)
    step = -figure.axes[0].get_yticks()[1]
    for axes, (name, after) in zip(figure.axes, augmented.items(), strict=True):
        drawn = axes.lines[-1].get_ydata() + 3 * step
        label = axes.texts[0].get_text()
        if name == "same":
            assert np.abs(drawn).max() == 0 and label.endswith("× 1")
            continue
        change = (after - signal)[-1]  # the last lead changes most
        factor = 0.4 * step / np.abs(change).max()
        assert label == f"change of V6, × {factor:.3g}"
        np.testing.assert_allclose(drawn, factor * change, atol=1e-9)
        low, high = axes.get_ylim()
        assert low < axes.lines[-1].get_ydata().min() and axes.lines[-1].get_ydata().max() < high


def test_what_cannot_be_drawn_is_refused() -> None:
    signal = np.zeros((12, 100))
    for augmented, show in (({}, ("I",)), ({"x": np.zeros((3, 100))}, ("I",)), ({"x": signal}, ("V9",))):
        with pytest.raises(UserError, match="augmentation figure"):
            augmentation_figure(signal, augmented, 100.0, show=show)


def test_shapes_are_drawn_with_their_shares() -> None:
    figure = principal_shapes_figure([0.6, 0.3], np.eye(2, 25), 100.0)
    scree, shapes = figure.axes
    assert [bar.get_height() for bar in scree.patches] == pytest.approx([60, 30])
    assert len(shapes.lines) == 2 and shapes.lines[0].get_xdata()[-1] == pytest.approx(240)
    assert "2 of 25 components: 90 %" in scree.get_title(loc="left")
    with pytest.raises(UserError, match="shapes needs"):
        principal_shapes_figure([0.6], np.eye(2, 25), 100.0)
