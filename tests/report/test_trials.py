from __future__ import annotations

import numpy as np
import pytest

from einthoven.errors import UserError
from einthoven.report.depth import depth_figure, profile
from einthoven.report.races import race_figure
from einthoven.report.style import new_figure
from einthoven.report.trials import LABEL_GAP, Trial, by_label, label_ends, mean_series


def trial(values: list[float], *, seed: int = 0, **options: str) -> Trial:
    steps = np.arange(1.0, len(values) + 1)
    names = {"model." + name: value for name, value in options.items()}
    return Trial(names, {"seed": str(seed), **names}, {"train/loss": (steps, np.array(values))})


def deep(activation: str, factor: float, layers: int = 12) -> Trial:
    step = np.array([1.0, 2.0])
    history = {f"watch/grad/norm/layer{i}": (step, np.array([factor**i, 99.0])) for i in range(1, layers + 1)}
    return Trial({"model.activation": activation}, {}, {**history, "watch/grad/norm": (step, step)})


def texts(figure: object) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]  # type: ignore[attr-defined]


def test_a_run_is_named_by_what_speaks_for_itself() -> None:
    assert trial([1.0], activation="relu", skip="true", depth="3").label({}) == "relu, skip true, depth 3"
    assert trial([1.0], activation="relu", skip="false").label({"model.skip=false": ""}) == "relu"
    assert trial([1.0], depth="3").label({}, leave_out="model.depth") == "run"


def test_seeds_are_averaged_over_the_steps_they_share() -> None:
    runs = [trial([1.0, 2.0, 3.0]), trial([3.0, 4.0], seed=1)]
    (members,) = by_label(runs, {}).values()
    steps, values = mean_series(members, "train/loss")
    assert steps.tolist() == [1, 2] and values.tolist() == [2.0, 3.0]


def test_no_runs_and_unknown_metrics_are_refused() -> None:
    with pytest.raises(UserError, match="nothing to draw"):
        by_label([], {})
    with pytest.raises(UserError, match="train/loss"):
        trial([1.0]).series("train/los")
    with pytest.raises(UserError, match=r"model\.activation: expected an option with numbers, found relu"):
        Trial({}, {"model.activation": "relu"}).number("model.activation")


def test_names_at_the_end_of_lines_do_not_overlap() -> None:
    axes = new_figure(6, 4).add_subplot()
    axes.set_ylim(0, 1)
    style = {"color": "k"}
    label_ends(axes, [(y, text, style) for text, y in zip("abcde", (0.5, 0.5, 0.51, -3.0, float("nan")), strict=True)])
    heights = sorted(text.xy[1] for text in axes.texts)
    assert len(heights) == 5 and heights[0] >= 0 and np.diff(heights).min() > LABEL_GAP - 1e-3


def test_a_profile_follows_the_layers_in_their_order_at_the_first_step() -> None:
    depth, values = profile(deep("sigmoid", 0.1), "watch/grad/norm")
    assert depth.tolist() == list(range(1, 13))
    np.testing.assert_allclose(values, 0.1**depth)


def test_the_depth_figure_has_a_panel_a_value_and_a_name_a_line() -> None:
    figure = depth_figure(
        [deep("sigmoid", 0.1), deep("relu", 1.1)],
        metric="watch/grad/norm",
        title="?",
        ylabel="norm",
        panel="model.activation",
        relative=True,
    )
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["sigmoid", "relu"]
    np.testing.assert_allclose(figure.axes[0].get_lines()[0].get_ydata()[-1], 0.1**11)
    with pytest.raises(UserError, match="two or more numbered stages"):
        depth_figure([trial([1.0])], metric="watch/grad/norm", title="?", ylabel="")


def test_a_race_draws_the_mean_of_the_seeds_by_name() -> None:
    runs = [
        trial([4.0, 2.0, v], activation=a, seed=s) for a, s, v in (("relu", 0, 1.0), ("relu", 1, 2.0), ("elu", 0, 3.0))
    ]
    figure = race_figure(runs, title="?", metrics=["train/loss"])
    assert texts(figure) == ["relu", "elu"]  # from below to above
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [4.0, 2.0, 1.5]


def test_lines_of_one_colour_are_told_apart_by_a_piece_of_them() -> None:
    runs = [trial([1.0, float(i)], depth=str(i)) for i in range(8)]
    (axes,) = race_figure(runs, title="?", metrics=["train/loss"]).axes
    named = {text.get_text(): text for text in axes.texts}
    pieces = {
        line.get_ydata()[0]: line.get_linestyle() for line in axes.lines if line.get_transform() == axes.transAxes
    }
    assert named["depth 0"].get_color() == named["depth 6"].get_color()
    assert {pieces[named[name].xy[1]] for name in ("depth 0", "depth 6")} == {"-", "--"}
