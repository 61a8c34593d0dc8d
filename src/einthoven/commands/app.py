"""`einthoven app [BUNDLE ...]`: a page on this machine that shows records and answers for them."""

from __future__ import annotations

import argparse
import signal
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from einthoven.app.workers import Limits, Pool
from einthoven.errors import UserError
from einthoven.terminal.parser import Parser

ADDRESS = "127.0.0.1"


def app(arguments: Sequence[str]) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    arguments : sequence of str
        As on the command line, after the verb.

    Raises
    ------
    UserError
        If an option is wrong, a bundle cannot be loaded, the port is taken, or a package is missing.
    """
    options = _options(arguments)
    limits = Limits(megabytes=options.max_size, seconds=options.timeout)
    try:
        import uvicorn

        from einthoven.app.server import application
    except ModuleNotFoundError as error:
        raise UserError(f"app: it takes the package {error.name}, which is missing; install einthoven[app].") from None
    with (
        _listening(options.port) as listening,
        tempfile.TemporaryDirectory(prefix="einthoven-") as folder,
        Pool(_bundles(options.bundles), limits) as pool,
    ):
        config = uvicorn.Config(
            application(pool, Path(folder)),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # no name of a file is written down
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        address = f"http://{ADDRESS}:{listening.getsockname()[1]}"
        print(pool.about["notice"])
        print(f"{address}  (stop with Ctrl-C)", flush=True)
        if options.browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _bundles(paths: Sequence[str]) -> list[Path]:
    """Folders of the bundles, fetched where they are addresses of MLflow."""
    if not paths:
        return []
    from einthoven.predict import find_bundle

    return [find_bundle(path) for path in paths]


def _listening(port: int) -> socket.socket:
    """A socket on this machine's own address."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((ADDRESS, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"app: port {port} cannot be used ({reason}); choose another with --port.") from None
    return listening


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    limits = Limits()
    parser = Parser("app")
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--no-browser", dest="browser", action="store_false")
    parser.add_argument("--max-size", type=float, default=limits.megabytes)
    parser.add_argument("--timeout", type=float, default=limits.seconds)
    options = parser.parse_args(list(arguments))
    for name, value in (("max-size", options.max_size), ("timeout", options.timeout)):
        if not 0 < value < 1e5:
            raise UserError(f"--{name} {value:g}: expected a positive number.")
    return options
