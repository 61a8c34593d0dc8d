"""`einthoven ui`: the MLflow page of the local runs."""

from __future__ import annotations

import os
import subprocess
import sys

from einthoven.errors import UserError
from einthoven.tracking.server import client


def ui(arguments: list[str]) -> None:
    """Serve the MLflow page on 127.0.0.1, and print the address of the newest experiment's charts.

    Parameters
    ----------
    arguments : list of str
        ``uri=…`` and ``port=…``, if not those of the defaults.
    """
    options = {"uri": "sqlite:///mlflow.db", "port": "5000"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options or not value:
            raise UserError(f"{argument}: expected uri=… or port=….")
        options[key] = value
    tracking = client(options["uri"])
    runs = tracking.search_runs(
        [e.experiment_id for e in tracking.search_experiments()],
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    address = f"http://127.0.0.1:{options['port']}"
    if runs:
        experiment, run = runs[0].info.experiment_id, runs[0].info.run_id
        print(f"charts of the experiment: {address}/#/experiments/{experiment}/runs?compareRunsMode=CHART")
        print(f"newest run:               {address}/#/experiments/{experiment}/runs/{run}/model-metrics")
    else:
        print(f"no runs yet in {options['uri']}: make train makes one; {address}")
    print("stop with Ctrl-C", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", options["uri"], "--host", "127.0.0.1"]
    # One worker, and none of the job queues: a local page needs neither, and each of them is a process.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.run([*command, "--port", options["port"], "--workers", "1"], env=environment, check=False)
    if server.returncode > 0:
        raise UserError(f"the MLflow server ended with code {server.returncode}; is port={options['port']} taken?")
