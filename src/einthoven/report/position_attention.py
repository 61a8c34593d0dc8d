"""Figure of what attention makes of the positions of tokens, for networks with different kinds of positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from einthoven.errors import UserError
from einthoven.report.style import FAINT, new_figure, series_style, use_style
from einthoven.report.trials import FloatArray, Trial, by_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ANALYSIS = "mean_attention"


def position_attention_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw mean attention maps, one per configuration, and their weights by the distance of the two tokens.

    A map is that of the first seed, in the block and head that differs most from even weights. Its weights are
    multiples of an even weight 1/N. Without positions, all weights of two different tokens are the same. The weights of
    a token to itself are left out, as they depend on its content.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=mean_attention.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a run has no attention maps.
    """
    groups = by_label(trials, names or {})
    with use_style():
        figure = new_figure(max(9.0, 3.6 * len(groups)), 7.4, title)
        grid = figure.add_gridspec(2, len(groups), height_ratios=[1.25, 1])
        maps = [figure.add_subplot(grid[0, column]) for column in range(len(groups))]
        line = figure.add_subplot(grid[1, :])
        heads = [most_uneven(members[0]) for members in groups.values()]
        largest = max(float(np.nanquantile(np.abs(weights - 1.0), 0.995)) for _, weights in heads)
        for number, (axes, label, (name, weights)) in enumerate(zip(maps, groups, heads, strict=True)):
            image = axes.imshow(weights, cmap="PuOr_r", vmin=1.0 - largest, vmax=1.0 + largest)
            axes.set_title(f"{label}\n{name}", fontsize=12)
            axes.grid(visible=False)
            axes.set_xlabel("token that is read")
            distance, mean = by_distance(weights)
            line.plot(distance, mean, **series_style(number), label=label)
        maps[0].set_ylabel("token that reads")
        figure.colorbar(image, ax=maps[-1], label="weight, even = 1", fraction=0.05)
        line.axhline(1.0, color=FAINT, linestyle="--", zorder=0)
        line.set(xlabel="tokens from the reader to what it reads; left: earlier", ylabel="mean weight, even = 1")
        line.legend(loc="upper right")
    return figure


def most_uneven(trial: Trial) -> tuple[str, FloatArray]:
    """Return the name and the mean weights (N, N) of the head whose weights vary most. Even weights are 1 each.

    The diagonal is not a number.
    """
    heads = {}
    for name, weights in sorted(trial.arrays.items()):
        if name.startswith("map/"):
            for number, head in enumerate(weights, 1):
                multiples = np.asarray(head, dtype=np.float64) * len(head)
                np.fill_diagonal(multiples, np.nan)
                heads[f"{name.removeprefix('map/')}, head {number}"] = multiples
    if not heads:
        raise UserError(f"figure: the runs have no attention maps; run them with analysis={ANALYSIS}.")
    name = max(heads, key=lambda key: float(np.nanstd(heads[key])))
    return name, heads[name]


def by_distance(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the signed distances (column minus row) of a map (N, N), and the mean weight at each.

    Distances of more than three quarters of the tokens are left out, as few pairs have them. At distance 0, the mean is
    not a number.
    """
    longest = 3 * len(weights) // 4
    distances = np.arange(-longest, longest + 1)
    means = np.array([np.diagonal(weights, distance).mean() for distance in distances])
    return distances.astype(np.float64), means
