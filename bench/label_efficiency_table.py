"""The table and the figure of `bench_label_efficiency.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from einthoven.evaluation.weighted_auroc import WeightedAUROC
from einthoven.report.style import PALETTE

KEYS = ["share", "draw", "judged"]
COLUMNS = ["start", *KEYS, "patients", "records", "auroc"]
RESAMPLES = 1000

Array = NDArray[np.float64]


def read_complete(folder: Path) -> pd.DataFrame:
    """Read the results of each share and draw that a start has of all judged folds of the share.

    The folds of a draw are paired: a draw counts for a start if each fold that any start has of this share is there.
    """
    results = pd.read_csv(folder / "results.csv", dtype={"judged": str})
    expected = results.groupby("share").judged.transform("nunique")
    found = results.groupby(["start", "share", "draw"]).judged.transform("nunique")
    return results[found == expected]


def print_table(results: pd.DataFrame, predictions: Path) -> None:
    """Print mean ± sd over draws of the mean over the judged folds, and the paired difference to scratch."""
    print(
        "| patients | start | models | macro AUROC | difference to scratch, 95 % interval |\n|---|---|---|---|---|",
        flush=True,
    )
    for share, of_share in results.groupby("share"):
        scratch = of_share[of_share.start == "scratch"].set_index(KEYS).auroc
        for start, rows in of_share.groupby("start", sort=False):
            auroc = rows.set_index(KEYS).auroc
            by_draw = auroc.groupby("draw").mean()
            spread = f" ± {by_draw.std(ddof=1):.3f}" if len(by_draw) > 1 else ""
            paired = auroc.index.intersection(scratch.index)
            difference = ""
            if start != "scratch" and len(paired):
                mean = (auroc.loc[paired] - scratch.loc[paired]).mean()
                low, high = difference_interval(predictions, str(start), list(paired))
                difference = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
            print(f"| {share} % | {start} | {len(rows)} | {by_draw.mean():.3f}{spread} | {difference} |", flush=True)


def difference_interval(predictions: Path, start: str, keys: list[tuple[int, int, str]]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean paired difference to scratch.

    The judged patients and the draws are resampled, the same ones for both starts.
    """
    rng = np.random.default_rng(0)
    draws = sorted({draw for _, draw, _ in keys})
    chosen = rng.multinomial(len(draws), np.full(len(draws), 1 / len(draws)), RESAMPLES)
    weight_of_draw = {draw: chosen[:, column] / len(draws) for column, draw in enumerate(draws)}
    groups = sorted({judged for _, _, judged in keys})
    total = np.zeros(RESAMPLES)
    for judged in groups:
        with np.load(predictions / f"judged_{judged}.npz") as labels:
            y = labels["y"] > 0
            _, patient = np.unique(labels["patient"], return_inverse=True)
        count = int(patient.max()) + 1
        counts = rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)[:, patient].astype(float)
        for share, draw, other in keys:
            if other == judged:
                name = f"{share}_{draw}_{judged}.npy"
                found = _macro(y, np.load(predictions / f"{start}_{name}"), counts)
                scratch = _macro(y, np.load(predictions / f"scratch_{name}"), counts)
                total += weight_of_draw[draw] * (found - scratch) / len(groups)
    low, high = np.quantile(total, [0.025, 0.975])
    return float(low), float(high)


def _macro(y: NDArray[np.bool_], p: Array, counts: Array) -> Array:
    """Return the macro AUROC of each resample."""
    return np.asarray(np.nanmean(WeightedAUROC(y, p)(counts), axis=1))


def draw_figure(results: pd.DataFrame, path: Path) -> None:
    """Draw the macro AUROC against the share of the patients, mean and sd over the draws."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    starts = list(results.groupby("start", sort=False))
    for number, (start, rows) in enumerate(starts):
        by_draw = rows.groupby(["share", "draw"]).auroc.mean()
        auroc = by_draw.groupby("share").agg(["mean", "std"])
        # Points of one share lie beside each other.
        x = auroc.index.to_numpy() * 1.025 ** (number - len(starts) / 2)
        # The palette of the project has eight colors. After them, the line is dashed.
        style = {"color": PALETTE[number % len(PALETTE)], "linestyle": "--" if number >= len(PALETTE) else "-"}
        axes.errorbar(x, auroc["mean"], auroc["std"], marker="o", ms=4, capsize=2, label=start, **style)
    axes.set_xscale("log")
    shares = np.sort(results["share"].unique())
    axes.set_xticks(shares, [f"{share} %" for share in shares])
    axes.minorticks_off()
    axes.set_xlabel("labelled patients")
    axes.set_ylabel("macro AUROC of judged folds")
    axes.legend(title="start", fontsize=8)
    figure.savefig(path, dpi=110)
