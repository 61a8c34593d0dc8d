"""`einthoven ui`: serve the MLflow page of the local runs."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from einthoven.errors import UserError
from einthoven.interrupts import program_group
from einthoven.terminal.display import say_if_any
from einthoven.terminal.parser import check_flags
from einthoven.tracking.runs_list import KIND, runs_list, show_results
from einthoven.tracking.server import client, without_password
from einthoven.tracking.sweep import OVERRIDES
from einthoven.tracking.usual_store import origin_of_store, usual_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

LARGEST_PORT = 65_535

_OPTIONS = {"uri": "", "port": "5000", "browser": "true"}
_SECONDS_BETWEEN_TRIES = 0.1


def main(arguments: list[str]) -> None:
    """Serve the MLflow page on 127.0.0.1 until Ctrl-C.

    When the server answers, the addresses of the list of runs and of the newest run are printed, and a browser opens
    the list, if there is one. The arguments are ``uri=…``, ``port=…`` and ``browser=…``, if not the defaults.
    """
    check_flags("ui", arguments)
    options = _read_options(arguments)
    uri = options["uri"] or usual_uri()
    port = options["port"]
    if uri.startswith(("http://", "https://")):
        raise UserError(f"uri={without_password(uri)}: a server, which has its own page; expected a database.")
    if not options["uri"]:
        say_if_any(origin_of_store(uri))
    tracking = client(uri)
    address = f"http://127.0.0.1:{port}"
    if _answers(address):
        other = int(port) + 1 if int(port) < LARGEST_PORT else LARGEST_PORT - 1
        raise UserError(f"port={port}: another server answers there; expected a free port, such as port={other}.")
    lines, first_page = _addresses(tracking, uri, address)
    print("the MLflow server starts, which takes some seconds", flush=True)
    # One worker and no job queue: a local page needs no more, and each of them is a process. The address is in a
    # variable, because it can contain a password, and all users of the machine see the words of a command.
    with program_group(
        [
            *(sys.executable, "-m", "mlflow", "ui"),
            *("--host", "127.0.0.1", "--port", port, "--workers", "1"),
            # Without this, the server prints a line for each file that the browser reads.
            *("--uvicorn-opts", "--log-level warning"),
        ],
        {
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": uri,
            # Without this, the server prints that it uses the other address.
            "MLFLOW_REGISTRY_STORE_URI": uri,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Its warnings are about its own packages.
            "PYTHONWARNINGS": "ignore",
        },
    ) as server:
        while server.poll() is None and not _answers(address):
            time.sleep(_SECONDS_BETWEEN_TRIES)
        if server.poll() is None:
            print("\n".join(lines), flush=True)
            if options["browser"] == "true" and _has_browser():
                webbrowser.open(first_page)
        try:
            server.wait()
        except KeyboardInterrupt:
            # This is how the page is stopped, and no error.
            return
    # A negative code is that of a signal: the user has ended the server.
    if server.returncode > 0:
        raise UserError(f"the MLflow server ended with code {server.returncode}; is port={port} taken?")


def _read_options(arguments: list[str]) -> Mapping[str, str]:
    """Return the value of each option, checked."""
    options = dict(_OPTIONS)
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name not in options or not value:
            raise UserError(f"{argument}: expected uri=…, port=… or browser=….")
        options[name] = value
    port = options["port"]
    if not port.isdecimal() or not 0 < int(port) <= LARGEST_PORT:
        raise UserError(f"port={port}: expected a whole number from 1 to {LARGEST_PORT}.")
    if options["browser"] not in ("true", "false"):
        raise UserError(f"browser={options['browser']}: expected true or false.")
    return options


def _addresses(tracking: MlflowClient, uri: str, address: str) -> tuple[list[str], str]:
    """Return lines with the pages of the newest run of einthoven and of its experiment, and what a browser opens."""
    # Other programs may have runs in the same store.
    newest_runs = tracking.search_runs(
        [experiment.experiment_id for experiment in tracking.search_experiments()],
        f"tags.`{OVERRIDES}` LIKE '%'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    if not newest_runs:
        lines = [
            f"There are no runs of einthoven in {without_password(uri)} yet.",
            "`make train` makes one.",
            f"The page of MLflow is {address}",
            "stop with Ctrl-C",
        ]
        return lines, address
    run = newest_runs[0].info
    show_results(tracking, tracking.get_experiment(run.experiment_id))
    first_page = runs_list(address, run.experiment_id)
    lines = [
        f"all runs:             {first_page}",
        f"charts of these runs: {first_page}&compareRunsMode=CHART",
        f"newest run:           {address}/#/experiments/{run.experiment_id}/runs/{run.run_id}?{KIND}",
        "stop with Ctrl-C",
    ]
    return lines, first_page


def _answers(address: str) -> bool:
    """Return whether a server answers at this address."""
    # `urlopen` would ask a proxy of the user.
    connection = HTTPConnection(address.removeprefix("http://"), timeout=1)
    try:
        connection.request("GET", "/health")
        connection.getresponse()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    return True


def _has_browser() -> bool:
    """Return whether a person reads this, and has a browser with windows. A browser in the terminal would hide it."""
    has_windows = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return sys.stdout.isatty() and has_windows
