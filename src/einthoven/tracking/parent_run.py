"""The parent run of the sweep that this process belongs to. It needs no MLflow before a sweep ends."""

from __future__ import annotations

import os

PARENT = "EINTHOVEN_PARENT_RUN"
"""Environment variable with the run id of the parent run of a sweep. The workers of every launcher inherit it."""


def abandon(status: str) -> None:
    """Close the parent run of a sweep that ended too early."""
    from mlflow import MlflowClient

    run_id = os.environ.pop(PARENT, None)
    if run_id:
        # The client uses the store that was opened for the sweep.
        MlflowClient().set_terminated(run_id, status)
