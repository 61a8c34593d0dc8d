"""The pictures of a run: pass what was logged and predicted to the functions of `einthoven.report`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.contracts import Predictions, TaskKind
from einthoven.data.formats.record import Record
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
from einthoven.diagnostics.stages import stages
from einthoven.functional.moments import window_moments
from einthoven.functional.pca import PCA, Float64, variance_along
from einthoven.models.positions import position_similarity
from einthoven.models.time_frontend import TimeFrontend
from einthoven.predict.delineator import load_delineator
from einthoven.predict.measuring import measure_records
from einthoven.report import ecg_paper, figures, note_picture, training
from einthoven.report.agreement import agreement_figure
from einthoven.report.attention import attention_figure
from einthoven.report.delineation import delineation_figure
from einthoven.report.histograms import histogram_figure
from einthoven.report.landscape import landscape_figure, path_figure
from einthoven.report.measurement_text import measurement_line
from einthoven.report.positions import positions_figure
from einthoven.report.small_multiples import principal_shapes_figure
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.results.pretraining_figures import reconstruction_figures
from einthoven.runs.results.surest_answers import explanations
from einthoven.runs.run import RunParts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]
"""Draws one picture."""

HISTOGRAMS = {
    "weights": ("Weights over the epochs", "magnitude of a weight"),
    "gradients": ("Gradient of the last step of each epoch, after clipping", "magnitude of an entry"),
    "activations": ("Outputs of all stages over the epochs", "magnitude of a value"),
    "probabilities": ("Predicted probabilities of the validation records", "probability"),
}
"""Name of a measurement, and of its picture -> title, and label of its axis."""

EXAMPLES = 2
"""Number of the best predictions, and of the worst ones, that are drawn."""


def pictures(
    run: NetworkParts,
    history: figures.History,
    predictions: Mapping[str, Predictions],
    landscape: Mapping[str, NDArray[Any]],
    histograms: Mapping[str, NDArray[Any]],
) -> dict[str, Draw]:
    """Return the pictures of a training and of its results by their names.

    The predictions are those of the records of each split. `landscape` is empty if the loss around the weights was not
    measured. `histograms` are those of `Validation.arrays`.
    """
    drawn = {**_training_pictures(run, history), **_histogram_pictures(histograms)}
    for split, of_records in predictions.items():
        drawn |= result_figure(run, split, of_records)
    if run.task.kind is TaskKind.CLASSES and not run.task.single_label:
        y = run.task.class_labels(run.data.splits["train"].labels).cpu().numpy()
        title = "Classes that occur together (train)"
        drawn["labels"] = partial(training.cooccurrence_figure, y, run.data.labels.classes, title=title)

    if landscape:
        drawn["landscape"] = partial(landscape_figure, landscape)
    if "path/loss" in landscape:
        drawn["trajectory"] = partial(path_figure, landscape)
    return drawn


def record_pictures(run: NetworkParts, row_predictions: Mapping[str, Predictions]) -> dict[str, Draw]:
    """Return the pictures of records of the last split by their names: test, or val if there is no test split."""
    if not row_predictions:
        return {}
    split, of_rows = list(row_predictions.items())[-1]
    drawn = example_figures(run, split, of_rows)
    drawn |= _attention_figure(run, split, of_rows)
    drawn |= _positions_figure(run, split)
    drawn |= reconstruction_figures(run, split)
    drawn |= explanations(run, split, of_rows)
    return drawn


def _training_pictures(run: NetworkParts, history: figures.History) -> dict[str, Draw]:
    """Return the pictures of metrics over the steps, and of the principal components."""
    stage_names = list(stages(run.model.network))
    first_stage = stage_names[0]
    label = run.task.metric_titles[run.task.monitor]
    steps, rates = (np.array(values) for values in history["watch/optim/lr"])
    multipliers = rates / run.optimizer.param_groups[0]["initial_lr"]
    drawn: dict[str, Draw] = {
        "loss": partial(figures.loss_figure, history, run.monitor, label),
        note_picture.NAME: partial(note_picture.note_picture, history, run.monitor, label),
        "schedule": partial(figures.schedule_figure, multipliers, steps - 1),
        "pca_scree": partial(_pca_figure, run),
    }
    if f"watch/grad/norm/{first_stage}" in history:
        drawn["gradient_flow"] = partial(training.gradient_flow_figure, history, stage_names)
    if f"watch/update/ratio/{first_stage}" in history:
        drawn["updates"] = partial(training.update_ratio_figure, history, stage_names)
    if not training.INFORMATION_METRICS.keys().isdisjoint(history):
        drawn["information"] = partial(training.information_figure, history)
    return drawn


def _histogram_pictures(histograms: Mapping[str, NDArray[Any]]) -> dict[str, Draw]:
    """Return the pictures of distributions over the epochs."""
    drawn: dict[str, Draw] = {}
    for name, (title, label) in HISTOGRAMS.items():
        # One epoch has no change to show.
        if len(histograms.get(f"{name}/epoch", ())) > 1:
            drawn[name] = partial(
                histogram_figure,
                histograms[f"{name}/epoch"],
                histograms[f"{name}/counts"],
                histograms[f"{name}/edges"][0],
                title=title,
                label=label,
                log=name != "probabilities",
            )
    return drawn


def result_figure(run: RunParts, split: str, predictions: Predictions) -> dict[str, Draw]:
    """Return the picture that compares the predictions of a split with the labels, quantities or masks.

    It is empty for a task without labels.
    """
    if run.task.kind is TaskKind.PRETEXT:
        return {}
    if run.task.kind is TaskKind.MASKS:
        return {f"delineation_{split}": partial(_delineation_figure, run, split, predictions)}
    if run.task.kind is TaskKind.QUANTITY:
        true, error = run.task.targets_and_errors(predictions.y, predictions.p)
        return {f"agreement_{split}": partial(agreement_figure, true, error, run.task.name, run.task.unit)}
    classes = run.data.labels.classes
    title = f"ROC curves ({split})"
    return {f"roc_{split}": partial(figures.roc_figure, predictions.y, predictions.p, classes, title=title)}


def _delineation_figure(run: RunParts, split: str, predictions: Predictions) -> Figure:
    """Draw the true and the predicted masks of the record with the median loss."""
    errors = run.task.record_errors(predictions.y, predictions.p)
    row = int(np.argsort(errors, kind="stable")[len(errors) // 2])
    records = run.data.splits[split]
    signal = records.take(torch.tensor([row], device=run.device), records.samples)[0].cpu().numpy()
    leads = run.data.store.leads
    lead = "II" if "II" in leads else leads[0]
    title, predicted = _describe_row(run, split, predictions, row)
    return delineation_figure(
        signal[leads.index(lead)],
        predictions.y[row],
        predictions.p[row],
        run.data.store.fs,
        lead=lead,
        title=f"{title} (median record)",
        subtitle=predicted,
    )


def example_figures(run: RunParts, split: str, row_predictions: Predictions) -> dict[str, Draw]:
    """Return the best and the worst predictions of a split on ECG paper, each with its label and its prediction."""
    order = np.argsort(run.task.record_errors(row_predictions.y, row_predictions.p), kind="stable")
    # No record is both among the best and among the worst.
    count = min(EXAMPLES, len(order) // 2)
    rows = {}
    for number in range(count):
        rows[f"ecg_best_{number + 1}"] = int(order[number])
    for number in range(max(count, 1)):
        rows[f"ecg_worst_{number + 1}"] = int(order[-1 - number])
    return {name: partial(_ecg_page, run, split, row_predictions, row) for name, row in rows.items()}


def _ecg_page(run: RunParts, split: str, predictions: Predictions, row: int) -> Figure:
    """Draw one record on ECG paper."""
    records = run.data.splits[split]
    signal = records.take(torch.tensor([row], device=run.device), records.samples)[0].cpu().numpy()
    title, predicted = _describe_row(run, split, predictions, row)
    subtitle = predicted if run.task.kind is TaskKind.PRETEXT else f"predicted: {predicted}"
    store = run.data.store
    record = Record(signal, store.fs, tuple(store.leads), title)
    (measurements,) = measure_records(load_delineator(), [record])
    return ecg_paper.ecg_paper_figure(
        signal,
        store.fs,
        title=title,
        subtitle=subtitle,
        measured=measurement_line(measurements),
        leads=store.leads,
    )


def _describe_row(run: RunParts, split: str, predictions: Predictions, row: int) -> tuple[str, str]:
    """Return the name of a record with its label, and its prediction, in words."""
    actual, predicted = run.task.describe(predictions.y[row], predictions.p[row], run.data.labels.classes)
    number = run.data.labels.ecg_ids[run.data.rows[split][row]]
    return f"record {number} ({split}): {actual}", predicted


def _attention_figure(run: NetworkParts, split: str, row_predictions: Predictions) -> dict[str, Draw]:
    """Return the picture of the attention in the record with the best prediction; empty without attention."""
    network = run.model.network
    leads = run.data.store.leads
    if not hasattr(network, "attention_maps"):
        return {}

    @torch.no_grad()
    def draw() -> Figure:
        row = int(np.argmin(run.task.record_errors(row_predictions.y, row_predictions.p)))
        x = run.data.splits[split].take(torch.tensor([row], device=run.device), run.window)
        maps = network.attention_maps(run.model.eval().frontend(x))  # type: ignore[operator]
        # The network may cut the record into windows. Their beginnings are given in tokens of the maps.
        starts, length = run.model.pieces(x.shape[2])
        tokens = next(iter(maps.values())).shape[-1]
        title, _ = _describe_row(run, split, row_predictions, row)
        return attention_figure(
            x[0].cpu().numpy(),
            run.data.store.fs,
            {name: weights.float().cpu().numpy() for name, weights in maps.items()},
            title=title,
            starts=[round(start * tokens / length) for start in starts],
            leads=leads,
            show=[lead for lead in ("II", "V1", "V5") if lead in leads] or list(leads[:3]),
        )

    return {"attention": draw}


def _positions_figure(run: NetworkParts, split: str) -> dict[str, Draw]:
    """Return the picture of the similarity of positions; empty without attention."""
    network = run.model.network
    if not hasattr(network, "attention_maps"):
        return {}

    @torch.no_grad()
    def draw() -> Figure:
        x = run.data.splits[split].take(torch.tensor([0], device=run.device), run.window)
        maps = network.attention_maps(run.model.eval().frontend(x))  # type: ignore[operator]
        tokens = next(iter(maps.values())).shape[-1]
        kind = str(run.config.model.get("positions", "none"))
        return positions_figure(position_similarity(network, tokens).cpu().numpy(), title=f"Positions: {kind}")

    return {"positions": draw}


def principal_components(run: NetworkParts) -> tuple[Float64, Float64]:
    """Return the components that the frontend keeps: of windows, or of the leads (all of them without a projection).

    They are orthonormal rows (k, d). A run that starts from a base has those of the base. The second array has the
    share of the variance of the training records of the run along each component.
    """
    frontend = run.model.frontend
    if run.base is not None and _projects(run):
        projection = frontend.projection.double().cpu().numpy()
        if isinstance(frontend, TimeFrontend):
            chunks = run.data.splits["train"].chunks()
            moments = window_moments(chunks, projection.shape[1], scale=MILLIVOLT_PER_COUNT)
            return variance_along(projection, moments.covariance)
        return variance_along(projection, run.moments.covariance)
    if isinstance(frontend, TimeFrontend):
        pca = frontend.pca
    else:
        pca = PCA(frontend.out_channels).fit_covariance(run.moments.mean, run.moments.covariance)
    return pca.components_, pca.explained_variance_ratio_


def _projects(run: NetworkParts) -> bool:
    """Return whether the frontend does more than to scale the leads."""
    projection = run.model.frontend.projection
    identity = torch.eye(*projection.shape, device=projection.device, dtype=projection.dtype)
    return not torch.equal(projection, identity)


def _pca_figure(run: NetworkParts) -> Figure:
    """Draw the components of the frontend, and the share of the variance of each component."""
    components, shares = principal_components(run)
    if isinstance(run.model.frontend, TimeFrontend):
        return principal_shapes_figure(shares, components, run.data.store.fs)
    # The components that a frontend leaves out are known if it is fitted to these records.
    if run.base is None:
        shares = PCA().fit_covariance(run.moments.mean, run.moments.covariance).explained_variance_ratio_
    return figures.pca_scree_figure(shares, components, run.data.store.leads)
