"""A server that runs, and how it is asked."""

from __future__ import annotations

import http.client
import json
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

MEGABYTES = 4


@dataclass(frozen=True)
class Server:
    """Where it answers, and the process."""

    port: int
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Status, content and headers of an answer, which may come before all of the request is sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with suppress(BrokenPipeError, ConnectionResetError):  # it has answered, and listens no more
            connection.request(method, path, body, headers or {}, **more)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        kind = response.headers.get("content-type", "")
        return response.status, json.loads(content) if kind == "application/json" else content, response.headers

    def answer(self, *files: Path, **options: object) -> tuple[int, Any]:
        """Status and content of the answer for the files of a record."""
        contents = [file.read_bytes() for file in files]
        pairs = [("file", file.name) for file in files] + [("size", len(content)) for content in contents[:-1]]
        status, content, _ = self.request(
            "POST", f"/answer?{urlencode([*pairs, *options.items()])}", b"".join(contents)
        )
        return status, content
