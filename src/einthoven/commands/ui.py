"""`einthoven ui`: serve the MLflow page of the local runs."""

from __future__ import annotations

import os
import subprocess
import sys

from einthoven.errors import UserError
from einthoven.terminal.display import say_if_any
from einthoven.terminal.parser import check_flags
from einthoven.tracking.server import client, without_password
from einthoven.tracking.usual_store import origin_of_store, usual_uri

LARGEST_PORT = 65_535


def main(arguments: list[str]) -> None:
    """Print the address of the newest experiment and run, and serve the MLflow page on 127.0.0.1 until Ctrl-C.

    Parameters
    ----------
    arguments : list of str
        ``uri=…`` and ``port=…``, if not the defaults.

    Raises
    ------
    UserError
        If an argument is unknown, or the server ends with an error.
    """
    check_flags("ui", arguments)
    options = {"uri": "", "port": "5000"}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in options or not value:
            raise UserError(f"{argument}: expected uri=… or port=….")
        options[name] = value
    uri = options["uri"] or usual_uri()
    port = options["port"]
    if not port.isdecimal() or int(port) > LARGEST_PORT:
        raise UserError(f"port={port}: expected a whole number from 0 to {LARGEST_PORT}.")
    if uri.startswith(("http://", "https://")):
        raise UserError(f"uri={without_password(uri)}: a server, which has its own page; expected a database.")
    if not options["uri"]:
        say_if_any(origin_of_store(uri))
    _print_addresses(uri, f"http://127.0.0.1:{port}")

    # One worker and no job queue: a local page needs no more, and each of them is a process. The address is in a
    # variable, because it can contain a password, and all users of the machine see the words of a command.
    server = subprocess.run(
        [
            *(sys.executable, "-m", "mlflow", "ui"),
            *("--host", "127.0.0.1", "--port", port, "--workers", "1"),
        ],
        env={
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        check=False,
    )
    # A negative code is that of a signal: the user has ended the server.
    if server.returncode > 0:
        raise UserError(f"the MLflow server ended with code {server.returncode}; is port={port} taken?")


def _print_addresses(uri: str, address: str) -> None:
    """Print where the page shows the newest experiment and run."""
    tracking = client(uri)
    newest_runs = tracking.search_runs(
        [experiment.experiment_id for experiment in tracking.search_experiments()],
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if newest_runs:
        run = newest_runs[0].info
        experiment_address = f"{address}/#/experiments/{run.experiment_id}/runs"
        print(f"charts of the experiment: {experiment_address}?compareRunsMode=CHART")
        print(f"newest run:               {experiment_address}/{run.run_id}/model-metrics")
    else:
        print(f"no runs yet in {without_password(uri)}: make train makes one; {address}")
    print("stop with Ctrl-C", flush=True)
