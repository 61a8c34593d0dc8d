"""JSON files that notice a change of any byte: their last entry is the SHA-256 of what stands before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SEAL = "sha256"


def sealed(content: Mapping[str, Any]) -> str:
    """The text of a sealed file."""
    text = json.dumps(dict(content))
    return json.dumps({**content, SEAL: hashlib.sha256(text.encode()).hexdigest()})


def unsealed(text: str) -> dict[str, Any]:
    """What a sealed file holds.

    Raises
    ------
    ValueError
        If it is no JSON object, has no seal, or is not what was written.
    """
    content = json.loads(text)
    if not isinstance(content, dict) or SEAL not in content:
        raise ValueError("it has no checksum of itself")
    del content[SEAL]
    if sealed(content) != text:
        raise ValueError("it is not what was written")
    return content


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
