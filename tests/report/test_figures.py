"""The figures of a run show the numbers that they were given."""

from __future__ import annotations

import io
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from einthoven.errors import UserError
from einthoven.report import figures
from einthoven.report.style import PALETTE, RC, series_style, use_style


def evaluation(num_classes: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(0)
    y = (rng.random((300, num_classes)) < 0.3).astype(np.float32)
    return y, rng.normal(size=y.shape) + y, [f"class {k}" for k in range(num_classes)]


def png_size(figure: Figure) -> tuple[int, int]:
    """Render as MLflow does, and read width and height from the file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    data = buffer.getvalue()
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def legend_numbers(figure: Figure) -> dict[str, float]:
    legend = figure.axes[0].get_legend()
    return {
        match[1]: float(match[2])
        for text in legend.get_texts()
        if (match := re.fullmatch(r"(.+?)  (\d\.\d{3})", text.get_text()))
    }


@pytest.mark.parametrize("num_classes", [1, 5, 12])
def test_roc_legend_and_curves_are_the_auroc(num_classes: int) -> None:
    y, p, classes = evaluation(num_classes)
    figure = figures.roc_figure(y, p, classes)
    numbers = legend_numbers(figure)
    expected = {name: roc_auc_score(y[:, k], p[:, k]) for k, name in enumerate(classes)}
    expected["macro mean"] = float(np.mean(list(expected.values())))
    assert numbers == pytest.approx(expected, abs=5.01e-4)
    for line in figure.axes[0].get_lines():
        name = line.get_label().rsplit("  ", 1)[0]
        if name in expected:
            x, height = line.get_data()
            assert np.sum(np.diff(x) * (height[1:] + height[:-1]) / 2) == pytest.approx(expected[name], abs=1e-3)
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(looks) == num_classes + 2  # each class, chance, macro: all told apart
    assert png_size(figure) == (1230, 900)


def test_names_of_classes_are_drawn_as_they_are_written() -> None:
    y, p, _ = evaluation(5)
    classes = (r"$\foo$", "_hidden", "x" * 260, "a\nb", "cost $5")
    figure = figures.roc_figure(y, p, classes)
    figure.savefig(io.BytesIO(), dpi=20)
    legend = figure.axes[0].get_legend()
    assert legend is not None
    labels = [text.get_text().rsplit("  ", 1)[0] for text in legend.get_texts()]
    assert labels[:-1] == [r"\$\foo\$", " _hidden", "x" * 39 + "…", "a b", r"cost \$5"]


def test_roc_of_many_classes_names_the_best_and_worst_alone() -> None:
    y, p, classes = evaluation(13)
    auroc = [roc_auc_score(y[:, k], p[:, k]) for k in range(13)]
    figure = figures.roc_figure(y, p, classes, title="Test fold")
    best, worst = int(np.argmax(auroc)), int(np.argmin(auroc))
    assert legend_numbers(figure) == pytest.approx(
        {
            f"best: class {best}": auroc[best],
            f"worst: class {worst}": auroc[worst],
            "macro mean": float(np.mean(auroc)),
        },
        abs=5.01e-4,
    )
    assert figure.axes[0].get_title(loc="left") == "Test fold, 13 classes"


def test_roc_leaves_out_classes_without_both_labels_and_says_so() -> None:
    y, p, classes = evaluation(3)
    y[:, 1] = 0
    figure = figures.roc_figure(y, p, classes)
    assert set(legend_numbers(figure)) == {"class 0", "class 2", "macro mean"}
    assert "1 classes" in figure.axes[0].get_legend().get_title().get_text()
    with pytest.raises(UserError, match="2 names for 3 columns"):
        figures.roc_figure(y, p, classes[:2])


def test_loss_figure_shows_what_is_there() -> None:
    steps = np.arange(100)
    history = {
        "train/loss": (steps, np.exp(-steps / 30)),
        "val/loss": ([50, 99], [0.4, 0.3]),
        "val/macro_auroc": ([50, 75, 99], [0.8, 0.9, 0.85]),
        "watch/grad/norm": (steps, np.ones(100)),
    }
    figure = figures.loss_figure(history)
    losses, auroc = figure.axes
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == ["train/loss, smoothed", "val/loss"]
    np.testing.assert_array_equal(losses.get_lines()[0].get_ydata(), history["train/loss"][1])
    np.testing.assert_array_equal(losses.get_lines()[2].get_xydata(), [[50, 0.4], [99, 0.3]])
    assert auroc.get_title(loc="left") == "Validation macro AUROC: best 0.9000 at step 75"
    assert auroc.get_xlabel() == "step"
    assert png_size(figure) == (1350, 1050)
    assert len(figures.loss_figure({"train/loss": history["train/loss"]}).axes) == 1
    assert len(figures.loss_figure({"val/macro_auroc": history["val/macro_auroc"]}).axes) == 1
    with pytest.raises(UserError, match="train/loss"):
        figures.loss_figure({"watch/grad/norm": (steps, steps)})


def test_the_final_evaluation_is_no_second_point_of_the_last_epoch() -> None:
    epochs = ([32, 64, 96, 97], [0.5, 0.6, 0.7, 0.7])
    figure = figures.loss_figure({"train/loss": (list(range(1, 97)), [1.0] * 96), "val/macro_auroc": epochs})
    lines = [line for axes in figure.axes for line in axes.lines if len(line.get_xdata()) in (3, 4)]
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[32, 64, 96]]


def test_loss_figure_survives_a_diverged_run() -> None:
    steps = np.arange(60)
    loss = np.where(steps < 40, 1.0 + steps / 40, np.nan)
    loss[39] = np.inf
    figure = figures.loss_figure({"train/loss": (steps, loss), "val/loss": ([30, 59], [1.5, np.nan])})
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0 and 1.9 < high < 3
    assert png_size(figure)[0] == 1350


def test_smooth_is_a_centred_mean_of_the_finite_values() -> None:
    np.testing.assert_allclose(figures.smooth([1, 2, 3, 4], 1), [1, 2, 3, 4])
    np.testing.assert_allclose(figures.smooth([1, 2, 6, 4], 3), [1.5, 3, 4, 5])
    np.testing.assert_allclose(figures.smooth([1, np.inf, 3, np.nan, np.nan, np.nan], 3), [1, 2, 3, 3, np.nan, np.nan])
    # A straight line stays what it is wherever the window is whole.
    line = np.linspace(0, 5, 50)
    np.testing.assert_allclose(figures.smooth(line, 7)[3:-3], line[3:-3])


def assert_numbers_are_free(figure: Figure) -> None:
    """The numbers of a scree figure touch neither a marker of the cumulative curve nor each other."""
    figure.canvas.draw()
    scree = figure.axes[0]
    boxes = [text.get_window_extent() for text in scree.texts]
    markers = scree.transData.transform(scree.get_lines()[0].get_xydata())
    radius = scree.get_lines()[0].get_markersize() / 2 * figure.dpi / 72
    for number, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:number])
        for x, y in markers:
            is_left_or_right = x + radius < box.x0 or x - radius > box.x1
            assert is_left_or_right or y + radius < box.y0 or y - radius > box.y1


def test_scree_bars_cumulative_and_loadings() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.5, 0.3, 0.15, 0.05])
    loadings = np.linalg.qr(rng.normal(size=(4, 4)))[0][:3]
    figure = figures.pca_scree_figure(share, loadings, ["I", "II", "V1", "V2"])
    scree, heat = figure.axes[:2]
    assert [bar.get_height() for bar in scree.patches] == pytest.approx([50, 30, 15, 5])
    colors = [bar.get_facecolor() for bar in scree.patches]
    assert colors[0] == colors[2] != colors[3]  # the fourth is not kept
    assert scree.get_lines()[0].get_ydata() == pytest.approx([50, 80, 95, 100])
    assert "3 of 4 components: 95 %" in scree.get_title(loc="left")
    np.testing.assert_array_equal(heat.images[0].get_array(), loadings)
    low, high = heat.images[0].get_clim()
    assert low == -high == -np.abs(loadings).max()
    assert [tick.get_text() for tick in heat.get_xticklabels()] == ["I", "II", "V1", "V2"]
    shown = [float(text.get_text().replace("\N{MINUS SIGN}", "-")) for text in heat.texts]
    np.testing.assert_allclose(shown, loadings.ravel(), atol=0.00501)
    assert png_size(figure) == (1950, 825)
    assert_numbers_are_free(figure)
    small = np.array([85.6, 10.8, 2.81, 0.427, 0.226, 0.12, 0.0259, 0.00975, 0.0, 0.0, 0.0, 0.0]) / 100
    assert_numbers_are_free(figures.pca_scree_figure(small, np.eye(12)[:8], [str(lead) for lead in range(12)]))
    assert_numbers_are_free(
        figures.pca_scree_figure(np.full(12, 1 / 12), np.eye(12), [str(lead) for lead in range(12)])
    )
    with pytest.raises(UserError, match=r"\(2,\) and \(3, 4\)"):
        figures.pca_scree_figure(share[:2], loadings, ["I", "II", "V1", "V2"])


def test_schedule_curve_and_peak() -> None:
    multipliers = np.array([0.0, 0.5, 1.0, 0.6, 0.1])
    figure = figures.schedule_figure(multipliers)
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), multipliers)
    assert axes.texts[0].get_text() == "1 at step 2"
    assert png_size(figure) == (1200, 600)
    with pytest.raises(UserError, match=r"shape \(0,\)"):
        figures.schedule_figure([])


def test_style_is_undone_and_figures_leave_no_pyplot_state() -> None:
    before = dict(matplotlib.rcParams)
    with use_style():
        assert matplotlib.rcParams["font.size"] == RC["font.size"]
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(PALETTE)
    figures.schedule_figure([1.0, 0.5])
    assert dict(matplotlib.rcParams) == before
    assert len({tuple(series_style(i).items()) for i in range(figures.MAX_NAMED_CURVES)}) == 12


def test_figures_make_no_use_of_pyplot() -> None:
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from einthoven.report import figures, ecg_paper\n"
        "figures.schedule_figure([1.0, 0.5])\n"
        "ecg_paper.ecg_paper_figure(np.zeros((12, 1000)), 100, title='flat')\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
