"""The page and its answers over HTTP, only for a browser on this machine.

Another site that is open in the same browser could send requests here, too: under a name of its own that leads to
127.0.0.1 (DNS rebinding), or with a form. `_Guard` recognises both by their headers.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from einthoven.app.upload import TooLargeError, save
from einthoven.app.workers import Pool
from einthoven.errors import UserError

OWN_NAMES = ("127.0.0.1", "localhost")
STATIC = Path(__file__).parent / "static"
START = "page.html"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# A request that is refused before its end is read on for this many seconds and chunks.
LINGER_SECONDS = 1.0
LINGER_CHUNKS = 64

RETRY_SECONDS = 2
"""A client that finds all workers busy is asked to try again after this time."""


class _Refusal(Response):
    """An error as JSON that is sent before the whole request has been read.

    Some of the rest of the request is read nevertheless. If the connection were closed while the client still sends,
    the client would lose the answer.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps({"error": sentence}, ensure_ascii=False)
        super().__init__(content, status, {"Connection": "close", **(headers or {})}, "application/json")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the error."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                for _ in range(LINGER_CHUNKS):
                    if not (await receive()).get("more_body"):
                        break
        await send({"type": "http.response.body", "body": b""})


class _Guard:
    """Accept only requests of this page, and add headers that limit what a browser may do with the answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        is_from_page = _is_from_page(Headers(scope=scope), scope["server"][1])
        app = self._app if is_from_page else FOREIGN_REQUEST
        await app(scope, receive, with_headers)


FOREIGN_REQUEST = _Refusal(403, "a request of another site or name found; expected this page, at 127.0.0.1.")


def _is_from_page(headers: Headers, port: int) -> bool:
    """Return whether the headers of a request are those of this page."""
    names = {f"{name}:{port}" for name in OWN_NAMES}
    if port == 80:
        names |= set(OWN_NAMES)
    origin = headers.get("origin")
    return (
        headers.get("host") in names
        and (origin is None or origin in {f"http://{name}" for name in names})
        and headers.get("sec-fetch-site", "none") in ("none", "same-origin")
    )


def page_files() -> dict[str, bytes]:
    """Return the files of the page by their path in the address."""
    files = {f"/{file.name}": file.read_bytes() for file in sorted(STATIC.iterdir()) if file.suffix in KINDS}
    files["/"] = files.pop(f"/{START}")
    return files


def application(pool: Pool, folder: Path) -> ASGIApp:
    """Return the application.

    Parameters
    ----------
    pool : Pool
    folder : Path
        A private folder. Each request has a folder inside it until it is answered.
    """
    limits = pool.limits
    active = 0
    page = page_files()
    content = {**pool.about, "limits": {"megabytes": limits.megabytes, "seconds": limits.seconds}}
    about = json.dumps(content, ensure_ascii=False)

    async def send_page(request: Request) -> Response:
        path = request.url.path
        return Response(page[path], media_type=KINDS[Path(path).suffix or ".html"])

    async def send_about(request: Request) -> Response:
        return Response(about, media_type="application/json")

    async def answer(request: Request) -> Response:
        nonlocal active
        if active >= limits.workers + limits.waiting:
            sentence = f"{active} records are being answered for; try again in {RETRY_SECONDS} s."
            return _Refusal(503, sentence, {"Retry-After": str(RETRY_SECONDS)})
        active += 1
        try:
            return await _answer(request, pool, folder)
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            active -= 1

    routes = [Route(path, send_page) for path in page]
    routes += [Route("/about", send_about), Route("/answer", answer, methods=["POST"])]
    return _Guard(Starlette(routes=routes))


async def _answer(request: Request, pool: Pool, folder: Path) -> Response:
    """Save the files of a request, and let a worker answer."""
    limits = pool.limits
    query = request.query_params
    try:
        if int(request.headers.get("content-length", 0)) > limits.bytes:
            raise TooLargeError(limits.bytes)
        options = _options(query)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            if options["example"] is None:
                sizes = [int(_number("size", text)) for text in query.getlist("size")]
                async with asyncio.timeout(limits.seconds):
                    await save(request.stream(), query.getlist("file"), sizes, Path(name), limits.bytes)
            status, content = await pool.ask({"folder": name, **options})
        return Response(content, status, media_type="application/json")
    except TimeoutError:
        return _Refusal(408, f"not sent within {limits.seconds:g} s.")
    except TooLargeError as error:
        return _Refusal(413, str(error))
    except UserError as error:
        return _Refusal(400, str(error))


def _options(query: QueryParams) -> dict[str, Any]:
    """Return the options of a request: how to read the files, and what to show."""
    reading: dict[str, Any] = {}
    if query.get("fs"):
        reading["fs"] = _number("fs", query["fs"])
    if query.get("units"):
        reading["units"] = query["units"][:20]
    if query.get("leads"):
        reading["leads"] = [name for name in query["leads"][:1000].replace(",", " ").split(" ") if name]
    example = int(_number("example", query["example"])) if "example" in query else None
    return {
        "reading": reading,
        "start_s": _number("start", query.get("start", "0")),
        "example": example,
        "explain": query.get("explain"),
    }


def _number(name: str, text: str) -> float:
    """Return a number of a query that is 0 or more, or refuse it."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UserError(f"{name}={text[:20]}: expected a number, 0 or more.")
    return value
