"""Addresses of the artifacts of a run in its note, before the run is in a store and has an id."""

from __future__ import annotations

import re
from urllib.parse import quote

RUN_ID = "RUN_ID_OF_THIS_RUN"
"""Stands for the id of the run in a tag. The id is not known before the run is sent."""


def artifact_address(path: str) -> str:
    """Return the address of an artifact, such as ``figures/loss.png``, seen from the page of its run."""
    return f"get-artifact?path={quote(path)}&run_uuid={RUN_ID}"


def beside_artifacts(markdown: str) -> str:
    """Return a text for a file among the artifacts of the run: each `artifact_address` becomes a relative path."""
    return re.sub(rf"get-artifact\?path=([^&\s]*)&run_uuid={RUN_ID}", r"\1", markdown)
