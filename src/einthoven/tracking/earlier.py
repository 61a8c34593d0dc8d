"""What a run has logged before it is continued: from its folder or, if that has lost its ``tracking/``, its store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from einthoven.errors import UserError, first_line, store_reason
from einthoven.tracking.delivery import Delivery
from einthoven.tracking.series import Point
from einthoven.tracking.server import without_password
from einthoven.tracking.spool import Spool

FINISHED = "FINISHED"
"""Status of a run that has come to its end."""


@dataclass
class Earlier:
    """What a run has logged."""

    points: list[Point] = field(default_factory=list)
    """The metrics as the store has them."""
    params: dict[str, str] = field(default_factory=dict)
    dataset: tuple[str, str] | tuple[()] = ()
    """Name and digest of the last dataset."""
    end_time: int | None = None
    """When the run ended, in milliseconds since 1970; None if it has not ended as FINISHED."""


def read_spool(entries: Spool, folder: Path) -> Earlier:
    """Read the metrics, parameters, dataset and end of the spool of a run.

    Raises a `UserError` if the spool is damaged. The message names `folder`, that of the run.
    """
    earlier = Earlier()
    try:
        for entry in entries.entries():
            earlier.points += [Point(*point) for point in entry.get("metrics", ())]
            earlier.params |= entry.get("params", {})
            if "dataset" in entry:
                earlier.dataset = (entry["dataset"]["name"], entry["dataset"]["digest"])
            status = entry.get("status", {})
            if status.get("status") == FINISHED:
                earlier.end_time = int(status["time"])
            elif "time" in status:
                earlier.end_time = None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{folder / 'tracking'}: entries.jsonl is damaged; expected the entries of a run.") from None
    return earlier


def read_store(delivery: Delivery, run_id: str, folder: Path) -> Earlier:
    """Read the metrics, parameters and end of a run from its store, and write the ids of the run into its folder.

    Raises a `UserError` if the store does not have the run. The message names `folder`, that of the run.
    """
    from mlflow.exceptions import MlflowException

    client = delivery.client
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        raise UserError(
            f"{folder}: has no tracking/, and its run cannot be read from {without_password(delivery.uri)} "
            f"({first_line(error)}); expected one of the two."
        ) from None
    delivery.write_ids(run_id, str(run.info.experiment_id))
    earlier = Earlier(params=dict(run.data.params))
    if run.info.status == FINISHED:
        earlier.end_time = run.info.end_time
    for name in run.data.metrics:
        metrics = sorted(client.get_metric_history(run_id, name), key=lambda metric: metric.step)
        earlier.points += [Point(name, metric.value, metric.timestamp, metric.step) for metric in metrics]
    return earlier


def create_again(delivery: Delivery, entries: Spool) -> None:
    """Create a run in the store whose creation was interrupted, or that was offline before.

    Raises a `UserError` if the store does not answer or refuses the run.
    """
    from mlflow.exceptions import MlflowException

    for entry in entries.entries():
        if "run" in entry:
            try:
                delivery.create(entry["run"])
            except MlflowException as error:
                raise UserError(f"tracking.uri={without_password(delivery.uri)}: {store_reason(error)}.") from None
