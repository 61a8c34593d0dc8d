"""Figure of the loss between networks from several starts, before and after their hidden units are brought in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from einthoven.functional.unit_matching import (
    Layer,
    dense_logits,
    interpolate_layers,
    match_units,
    permute_units,
)
from einthoven.report.style import BLUE, VERMILLION, new_figure, use_style
from einthoven.report.trials import FloatArray, Trial, seeds_by_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ANALYSIS = "dense_layers"
POINTS = 25
BINS = np.linspace(-0.5, 1.0, 61).tolist()


def matching_figure(trials: Sequence[Trial], *, title: str, names: Mapping[str, str] | None = None) -> Figure:
    """Draw the loss on the line between the weights of every two starts, before and after the matching of their units.

    Each configuration has two panels. Above is the loss on the line, for every two of its seeds. Below is how similar
    a hidden unit of the first start is to a unit of the second one: to that in the same place, and to the matching one.

    Parameters
    ----------
    trials : sequence of Trial
        Runs with analysis=dense_layers, with two or more seeds per configuration.
    title : str
        The question that the figure answers.
    names : mapping, optional
        See `Trial.label`.

    Raises
    ------
    UserError
        If a configuration has only one run.
    """
    groups = seeds_by_label(trials, names or {})
    with use_style():
        figure = new_figure(max(8.0, 5.2 * len(groups)), 7, title)
        places = figure.subplots(2, len(groups), squeeze=False, height_ratios=[1.5, 1], sharey="row")
        for column, (label, members) in zip(places.T, groups.items(), strict=True):
            before, after = _draw_lines(column[0], members)
            column[0].set_title(f"{label}: barrier {before:.3f} → {after:.3f}")
            _draw_similarities(column[1], layers_of(members[0]), layers_of(members[1]))
        places[0, 0].set_ylabel("training loss")
        places[0, 0].legend()
        places[1, 0].set_ylabel("hidden units (%)")
        places[1, 0].legend()
    return figure


def layers_of(trial: Trial) -> list[Layer]:
    """Return the layers of the network of a run, in float64."""
    trial.array("weight/1", ANALYSIS)
    count = sum(name.startswith("weight/") for name in trial.arrays)
    layers = []
    for number in range(1, count + 1):
        weight = trial.array(f"weight/{number}", ANALYSIS).astype(np.float64)
        bias = trial.array(f"bias/{number}", ANALYSIS).astype(np.float64)
        layers.append((weight, bias))
    return layers


def mean_loss(layers: Sequence[Layer], trial: Trial) -> float:
    """Return the cross-entropy of a network on the records of a run: the mean over records and classes, in nats."""
    logits = dense_logits(layers, trial.array("inputs", ANALYSIS), lambda x: np.maximum(x, 0.0))
    return float((np.logaddexp(0.0, logits) - trial.array("labels", ANALYSIS) * logits).mean())


def line_losses(start: Sequence[Layer], end: Sequence[Layer], trial: Trial) -> FloatArray:
    """Return the losses on the line between two networks, at `POINTS` equal distances."""
    shares = np.linspace(0.0, 1.0, POINTS)
    return np.array([mean_loss(interpolate_layers(start, end, share), trial) for share in shares])


def barrier(losses: FloatArray) -> float:
    """Return how far the losses on a line rise above the straight line between those of its ends.

    Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis", section 2; here above the line
    between the two ends, as in Entezari et al. 2022.
    """
    straight = np.linspace(losses[0], losses[-1], len(losses))
    return float((losses - straight).max())


def _draw_lines(axes: Axes, trials: Sequence[Trial]) -> tuple[float, float]:
    """Draw the losses between every two runs. Return the mean barrier before and after the matching."""
    shares = np.linspace(0.0, 1.0, POINTS)
    barriers: list[tuple[float, float]] = []
    for first, second in combinations(trials, 2):
        start = layers_of(first)
        end = layers_of(second)
        matched = permute_units(end, match_units(start, end))
        before = line_losses(start, end, first)
        after = line_losses(start, matched, first)
        is_first_pair = not barriers
        axes.plot(shares, before, color=VERMILLION, label="units as they are" if is_first_pair else None)
        axes.plot(shares, after, color=BLUE, label="units matched" if is_first_pair else None)
        barriers.append((barrier(before), barrier(after)))
    axes.set_xticks([0, 0.5, 1], ["one start", "half way", "another start"])
    mean_before, mean_after = np.mean(barriers, axis=0)
    return float(mean_before), float(mean_after)


def _draw_similarities(axes: Axes, first: Sequence[Layer], second: Sequence[Layer]) -> None:
    """Draw the cosines between the weights of units of the first hidden layer of two networks."""
    matched = permute_units(second, match_units(first, second))
    for other, color, label in ((second, VERMILLION, "in the same place"), (matched, BLUE, "matched")):
        cosines = unit_cosines(first, other)
        percent = np.full(len(cosines), 100 / len(cosines))
        axes.hist(cosines, bins=BINS, weights=percent, color=color, alpha=0.5, label=label)
    axes.set_xlabel("cosine between the weights of two units")


def unit_cosines(first: Sequence[Layer], second: Sequence[Layer]) -> FloatArray:
    """Return the cosine between the inputs and outputs of each unit of the first hidden layer of two networks."""
    vectors = []
    for layers in (first, second):
        incoming, bias = layers[0]
        outgoing, _ = layers[1]
        vectors.append(np.concatenate([incoming, bias[:, None], outgoing.T], axis=1))
    norms = np.linalg.norm(vectors[0], axis=1) * np.linalg.norm(vectors[1], axis=1)
    products = (vectors[0] * vectors[1]).sum(axis=1)
    return products / np.maximum(norms, np.finfo(np.float64).tiny)
