"""Texts without the folders of the user's machine."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_PATH = re.compile(
    r"""(?P<before>^|[\s=,:\[('"])      # where a value begins, or the path of an address such as sqlite:///
        (?://+|~?/|[A-Za-z]:[\\/])     # an absolute path of Unix or Windows
        (?:[^\s,\])'"]*[\\/])?         # its folders
        (?P<name>[^\s,\])'"\\/]+)[\\/]?""",
    re.VERBOSE,
)


SHORTENED = "…/"
"""What replaces the folders of a path."""


def without_folders(text: str) -> str:
    """Shorten absolute paths to their last part. A run does not tell where the user stores files.

    This works on a value (``/home/me/ptb-xl`` -> ``…/ptb-xl``), on overrides (``data.root=/home/me/ptb-xl``) and on the
    message of an error. If the whole value is an absolute path, the path may contain spaces.
    """
    if PurePosixPath(text).is_absolute() and not re.search(r"\s/", text):
        return f"{SHORTENED}{PurePosixPath(text).name}"
    return _PATH.sub(rf"\g<before>{SHORTENED}\g<name>", text)
