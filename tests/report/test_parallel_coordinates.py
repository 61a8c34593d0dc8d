from __future__ import annotations

import numpy as np
import pytest

from einthoven.report.option_importance import option_importance_figure
from einthoven.report.parallel_coordinates import AXES, parallel_coordinates_figure

OPTIONS = [
    {"optimizer": name, "optimizer.lr": str(float(10.0**-power))}
    for name, power in zip("aabbaabb", np.linspace(1, 4.5, 8), strict=True)
]
VALUES = np.array([0.7, 0.8, 0.75, 0.95, 0.9, 0.85, 0.6, 0.65])


def texts(figure: object) -> list[str]:
    (axes,) = figure.axes  # type: ignore[attr-defined]
    return [text.get_text() for text in axes.texts]


def test_every_run_is_a_line_through_its_options_to_its_value() -> None:
    figure = parallel_coordinates_figure(OPTIONS, VALUES, metric="val/macro_auroc")
    runs = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert len(runs) == len(OPTIONS)
    (best,) = [line for line in runs if line.get_linewidth() > 2]
    names = [name for name in texts(figure) if name in ("optimizer", "optimizer.lr", "val/macro_auroc")]
    assert set(names[:2]) == {"optimizer", "optimizer.lr"} and names[2] == "val/macro_auroc"
    heights = dict(zip(best.get_xdata(), best.get_ydata(), strict=True))
    assert heights[2.0] == pytest.approx(1.0)
    # powers at equal steps: the fourth of eight from above, on a logarithmic axis
    assert heights[float(names.index("optimizer.lr"))] == pytest.approx(4 / 7)


def test_runs_of_one_name_pass_beside_each_other() -> None:
    figure = parallel_coordinates_figure([{"a": "x"}, {"a": "x"}, {"a": "y"}], [0.1, 0.2, 0.3], metric="m")
    runs = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert len({line.get_ydata()[0] for line in runs}) == 3


def test_of_many_options_the_important_ones_are_drawn() -> None:
    rng = np.random.default_rng(0)
    options = [{f"o{k}": rng.choice(["x", "y"]) for k in range(AXES + 3)} for _ in range(40)]
    values = [1.0 * (each["o3"] == "x") + 0.01 * (each["o5"] == "x") for each in options]
    figure = parallel_coordinates_figure(options, values, metric="m")
    drawn = [text for text in texts(figure) if text.startswith("o")]
    assert len(drawn) == AXES and drawn[0] == "o3"
    assert "3 options that mattered less are left out" in figure.axes[0].get_title(loc="left")


def test_the_bars_add_up_and_tell_the_spread_of_the_seeds() -> None:
    options = [{"a": a, "b": b} for a in "xy" for b in "xy" for _ in range(2)]
    values = [each + seed for each in (0.0, 1.0, 1.0, 0.0) for seed in (-0.1, 0.1)]
    figure = option_importance_figure(options, values, metric="m")
    widths = {label: bar.get_width() for label, bar in zip(("a", "b", "rest"), figure.axes[0].patches, strict=True)}
    assert widths == pytest.approx({"a": 0.0, "b": 0.0, "rest": 100.0}, abs=1e-9)
    assert f"{np.std([-0.1, 0.1], ddof=1):.2g} from seed to seed" in figure.get_supxlabel()
