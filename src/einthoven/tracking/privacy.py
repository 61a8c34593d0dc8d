"""What is told of a user's machine."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_PATH = re.compile(
    r"""(?P<before>^|[\s=,:\[('"])      # where a value begins, or the path of an address such as sqlite:///
        (?://+|~?/|[A-Za-z]:[\\/])     # an absolute path, under Unix or Windows
        (?:[^\s,\])'"]*[\\/])?         # its folders
        (?P<name>[^\s,\])'"\\/]+)[\\/]?""",
    re.VERBOSE,
)


def without_folders(text: str) -> str:
    """Cut absolute paths down to their last part: where a user keeps files is not the run's business.

    Works on a value (``/home/me/ptb-xl`` -> ``…/ptb-xl``), on overrides (``data.root=/home/me/ptb-xl``) and on the
    text of an error. A value that as a whole is an absolute path may hold spaces.
    """
    if PurePosixPath(text).is_absolute() and not re.search(r"\s/", text):
        return f"…/{PurePosixPath(text).name}"
    return _PATH.sub(r"\g<before>…/\g<name>", text)
