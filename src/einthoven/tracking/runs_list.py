"""What MLflow's page of an experiment shows first: the columns of the list of runs, and the first charts.

MLflow keeps this choice in the browser of the user. Only a shared view is in the store: it is a tag of the experiment,
and an address can name it.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

VIEW = "einthoven"
"""Name of the view in the address of the page."""

KIND = "workflowType=machine_learning"
"""Part of an address of a page. With it, MLflow shows the menu for trained models, not for language models."""

TAG = f"mlflow.sharedViewState.{VIEW}"

RESULTS = (
    "test/macro_auroc",
    "test/mean_macro_auroc",
    "val/macro_auroc",
    "test/mae",
    "val/mae",
    "val/dice",
    "val/r2",
    "val/elbo",
    "val/mutual_information",
    "val/probe_auroc",
)
"""Metrics that are columns of the list, if a run has them."""

OPTIONS = ("model", "optimizer", "seed")
"""Parameters that are columns of the list."""

CURVES = ("val/macro_auroc", "val/loss", "train/loss")
BARS = ("test/macro_auroc",)
"""Metrics of the first charts: lines over the steps, and one bar for each run."""

_SECTION = "AUROC and loss"
"""Title of the section of the first charts. MLflow sorts the sections, and this title comes before ``test``."""


def runs_list(address: str, experiment_id: str) -> str:
    """Return the address of the list of the runs of an experiment on a server, with this view."""
    return f"{address}/#/experiments/{experiment_id}/runs?{KIND}&viewStateShareKey={VIEW}"


def view_tag() -> dict[str, str]:
    """Return the tag of an experiment with the view."""
    columns = [f"metrics.`{name}`" for name in RESULTS] + [f"params.`{name}`" for name in OPTIONS]
    charts = [_bar(name) for name in BARS] + [_line(name) for name in CURVES]
    section = {"uuid": "einthoven-first", "name": _SECTION, "display": True, "isReordered": False}
    view = {
        "selectedColumns": columns,
        "compareRunCharts": charts,
        "compareRunSections": [section],
        "isAccordionReordered": False,
    }
    return {TAG: json.dumps(view)}


def show_results(client: MlflowClient, experiment: Experiment) -> None:
    """Give an experiment the view, unless it has it already. A store that may only be read is left as it is."""
    from mlflow.exceptions import MlflowException

    for name, value in view_tag().items():
        if experiment.tags.get(name) != value:
            with suppress(MlflowException):
                client.set_experiment_tag(experiment.experiment_id, name, value)


def _chart(kind: str, metric: str) -> dict[str, Any]:
    """Return what charts of all kinds have. MLflow adds no other chart of this metric."""
    return {
        "type": kind,
        "uuid": f"einthoven-{kind.lower()}-{metric.replace('/', '-')}",
        "metricSectionId": "einthoven-first",
        "runsCountToCompare": 10,
        "deleted": False,
        "isGenerated": True,
        "metricKey": metric,
        "displayName": metric,
    }


def _bar(metric: str) -> dict[str, Any]:
    return _chart("BAR", metric)


def _line(metric: str) -> dict[str, Any]:
    return _chart("LINE", metric) | {
        "lineSmoothness": 0,
        "scaleType": "linear",
        "xAxisScaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }
