"""`einthoven app [BUNDLE ...]`: serve a page on this machine that shows records and predicts for them."""

from __future__ import annotations

import argparse
import signal
import socket
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from einthoven.app.workers import Limits, Pool
from einthoven.atomic import temporary_folder
from einthoven.errors import UserError
from einthoven.terminal.parser import Parser

ADDRESS = "127.0.0.1"


def main(arguments: Sequence[str]) -> None:
    """Serve the page until Ctrl-C."""
    options = _options(arguments)
    limits = Limits(megabytes=options.max_size, seconds=options.timeout)
    try:
        import uvicorn

        from einthoven.app.server import application
    except ModuleNotFoundError as error:
        raise UserError(f"app: the package {error.name} is missing; install einthoven[app].") from None
    with (
        _open_socket(options.port) as server_socket,
        temporary_folder() as folder,
        Pool(_bundle_folders(options.bundles), limits) as pool,
    ):
        config = uvicorn.Config(
            application(pool, folder),
            ws="none",
            lifespan="off",
            log_config=None,
            # Names of files may name patients, so they are in no log.
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        address = f"http://{ADDRESS}:{server_socket.getsockname()[1]}"
        print(pool.about["notice"])
        print(f"{address}  (stop with Ctrl-C)", flush=True)
        if options.browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        # SIGTERM, and SIGHUP of a terminal that was closed, end the server as Ctrl-C does.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[server_socket])


def _bundle_folders(paths: Sequence[str]) -> list[Path]:
    """Return the folders of the bundles; those in MLflow are downloaded."""
    if not paths:
        return []
    from einthoven.predict.model_folder import find_bundle

    return [find_bundle(path) for path in paths]


def _open_socket(port: int) -> socket.socket:
    """Return a socket that listens on this machine's own address."""
    server_socket = socket.socket()
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind((ADDRESS, port))
        server_socket.listen(2048)
    except (OSError, OverflowError) as error:
        server_socket.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"app: port {port} cannot be used ({reason}); choose another with --port.") from None
    return server_socket


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    limits = Limits()
    parser = Parser("app")
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-browser", dest="browser", action="store_false")
    parser.add_argument("--max-size", type=float, default=limits.megabytes)
    parser.add_argument("--timeout", type=float, default=limits.seconds)
    options = parser.read(arguments)
    for name, value in (("max-size", options.max_size), ("timeout", options.timeout)):
        if not 0 < value < 1e5:
            raise UserError(f"--{name} {value:g}: expected a positive number.")
    return options
