"""The pictures of a run: what was recorded and found, given to the functions of `einthoven.report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.contracts import Predictions
from einthoven.diagnostics.stages import stages
from einthoven.functional.pca import PCA
from einthoven.models.time_frontend import TimeFrontend
from einthoven.report import ecg_paper, figures, training
from einthoven.report.agreement import agreement_figure
from einthoven.report.attention import attention_figure
from einthoven.report.landscape import landscape_figure, path_figure
from einthoven.report.small_multiples import principal_shapes_figure
from einthoven.runs.network_parts import NetworkParts
from einthoven.runs.run import RunParts
from einthoven.runs.surest_answers import explanations

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]

SHOWN = 2  # of the best predictions, and of the worst


def pictures(
    run: NetworkParts,
    history: figures.History,
    found: Mapping[str, Predictions],
    by_window: Mapping[str, Predictions],
    around: Mapping[str, NDArray[Any]],
) -> dict[str, Draw]:
    """Name -> picture of a training: drawn one at a time, so that no more than one is in memory.

    Parameters
    ----------
    history : mapping of str to (steps, values)
        As it was recorded.
    found, by_window : mapping of str to Predictions
        What was found in the records of each split, and in their windows.
    around : mapping of str to ndarray
        The loss around the weights; empty if it was not looked at.
    """
    names = list(stages(run.model.network))
    steps, rates = (np.array(part) for part in history["watch/optim/lr"])
    drawn: dict[str, Draw] = {
        "loss": partial(figures.loss_figure, history, run.monitor, run.task.shown[run.task.monitor]),
        "schedule": partial(figures.schedule_figure, rates / run.optimizer.param_groups[0]["initial_lr"], steps - 1),
        "pca_scree": partial(_pca_figure, run),
    }
    if f"watch/grad/norm/{names[0]}" in history:
        drawn["gradient_flow"] = partial(training.gradient_flow_figure, history, names)
    if f"watch/update/ratio/{names[0]}" in history:
        drawn["updates"] = partial(training.update_ratio_figure, history, names)
    if not training.INFORMATION.keys().isdisjoint(history):
        drawn["information"] = partial(training.information_figure, history)
    for split, evaluation in found.items():
        drawn |= result_figure(run, split, evaluation)
    if run.task.output == "sigmoid":
        y, classes = run.data.splits["train"].labels.cpu().numpy(), run.data.labels.classes
        drawn["labels"] = partial(training.cooccurrence_figure, y, classes, title="Classes that stand together (train)")
    if around:
        drawn["landscape"] = partial(landscape_figure, around)
    if "path/loss" in around:
        drawn["trajectory"] = partial(path_figure, around)
    if by_window:
        split, evaluation = list(by_window.items())[-1]
        drawn |= example_figures(run, split, evaluation) | _attention(run, split, evaluation)
        drawn |= explanations(run, split, evaluation)
    return drawn


def result_figure(run: RunParts, split: str, found: Predictions) -> dict[str, Draw]:
    """How the predictions of a split compare with what was true."""
    if run.task.output == "identity":
        true, error = run.task.told(found.y, found.p)
        return {f"agreement_{split}": partial(agreement_figure, true, error, run.task.name, run.task.unit)}
    return {f"roc_{split}": partial(figures.roc_figure, found.y, found.p, run.data.labels.classes)}


def example_figures(run: RunParts, split: str, found: Predictions) -> dict[str, Draw]:
    """The best and the worst predictions of a split on ECG paper, with what was expected and what was predicted."""
    order = np.argsort(_losses(run, found), kind="stable")
    shown = min(SHOWN, len(order) // 2)
    rows = {f"ecg_best_{n + 1}": int(order[n]) for n in range(shown)}
    rows |= {f"ecg_worst_{n + 1}": int(order[-1 - n]) for n in range(max(shown, 1))}
    return {name: partial(_page, run, split, found, row) for name, row in rows.items()}


def _losses(run: RunParts, found: Predictions) -> NDArray[np.float64]:
    """What the prediction of each record costs (n,): its negative log-likelihood, or the error of a quantity."""
    if run.task.output == "identity":
        error: NDArray[np.float64] = np.abs(run.task.told(found.y, found.p)[1])
        return error
    rows = zip(found.y[:, None], found.p[:, None], strict=True)
    return np.array([run.task.negative_log_likelihood(y, p) for y, p in rows])


def _page(run: RunParts, split: str, found: Predictions, row: int) -> Figure:
    packed = run.data.splits[split]
    signal = packed.take(torch.tensor([row], device=run.device), packed.samples)[0].cpu().numpy()
    title, predicted = _told(run, split, found, row)
    return ecg_paper.ecg_paper_figure(
        signal, run.data.store.fs, title=title, subtitle=f"predicted: {predicted}", leads=run.data.store.leads
    )


def _told(run: RunParts, split: str, found: Predictions, row: int) -> tuple[str, str]:
    """Name of a record and what is true of it; what was predicted."""
    actual, predicted = run.task.described(found.y[row], found.p[row], run.data.labels.classes)
    return f"record {run.data.labels.ecg_ids[run.data.rows[split][row]]} ({split}): {actual}", predicted


def _attention(run: NetworkParts, split: str, found: Predictions) -> dict[str, Draw]:
    """Where a network with attention looks in the record that it predicts best."""
    network, leads = run.model.network, run.data.store.leads
    if not hasattr(network, "attention_maps"):
        return {}

    @torch.no_grad()
    def draw() -> Figure:
        row = int(np.argmin(_losses(run, found)))
        x = run.data.splits[split].take(torch.tensor([row], device=run.device), run.window)
        maps = network.attention_maps(run.model.eval().frontend(x))  # type: ignore[operator]
        starts, length = run.model.pieces(x.shape[2])
        title, _ = _told(run, split, found, row)
        return attention_figure(
            x[0].cpu().numpy(),
            run.data.store.fs,
            {name: weights.float().cpu().numpy() for name, weights in maps.items()},
            title=title,
            starts=[round(start * next(iter(maps.values())).shape[-1] / length) for start in starts],
            leads=leads,
            show=[lead for lead in ("II", "V1", "V5") if lead in leads] or list(leads[:3]),
        )

    return {"attention": draw}


def principal_components(run: NetworkParts) -> PCA:
    """The components that the frontend keeps: of windows, or of the leads (all of them without a projection)."""
    frontend = run.model.frontend
    if isinstance(frontend, TimeFrontend):
        return frontend.pca
    return PCA(frontend.out_channels).fit_covariance(run.moments.mean, run.moments.covariance)


def _pca_figure(run: NetworkParts) -> Figure:
    kept = principal_components(run)
    if isinstance(run.model.frontend, TimeFrontend):
        return principal_shapes_figure(kept.explained_variance_ratio_, kept.components_, run.data.store.fs)
    shares = PCA().fit_covariance(run.moments.mean, run.moments.covariance).explained_variance_ratio_
    return figures.pca_scree_figure(shares, kept.components_, run.data.store.leads)
