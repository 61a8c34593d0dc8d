"""`UserError`, the exception that carries a message to the user, and sentences for errors of the operating system."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path
from unicodedata import category

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors of a disk or quota that is full, or of a file that is larger than allowed."""

NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Numbers of the errors of a file or folder that this user may not read or write."""

_EXPECTED_KIND = {
    errno.EEXIST: "a folder, or a name that no file has",
    errno.ENOTDIR: "a path whose parts are folders",
    errno.EISDIR: "a file, and not a folder",
}
"""Number of an error -> what was expected where there is a file instead of a folder, or a folder instead of a file."""

_REFUSED_USER = {
    "401": "its server does not know this user; expected a user and a password of it in MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD",
    "403": "its server does not allow this user to do that; expected an experiment of this user "
    "(tracking.experiment=NAME), or another user in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}
"""HTTP status of a server that asks for a user -> what was found and expected."""

_STORE_MODULES = {"mlflow", "sqlalchemy", "sqlite3"}


class UserError(Exception):
    """A mistake in the input. The message is one sentence that names what was found and what was expected.

    The command line prints the message without a traceback and exits with code 2.
    """


def printable_text(text: str, allowed: str = "\n") -> str:
    """Return a text whose control characters are written as in Python's source, except those of `allowed`.

    A name from a foreign file may contain control characters that change what the terminal shows, or bytes that are no
    text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in allowed or category(c) == "Zs" else ascii(c)[1:-1] for c in text)


def system_sentence(error: OSError | MemoryError) -> str:
    """Return a sentence for an error of the operating system: a file, the network, or the memory."""
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return f"not enough memory{detail}; expected smaller numbers, or fewer records at once."
    # Of two names, the second one is the file to write.
    file = error.filename2 or error.filename
    reason = error.strerror or str(error)
    if not isinstance(file, str):
        if error.errno in NO_ROOM:
            return (
                f"a file cannot be written ({reason}); expected room on the disk of the output of this command and of "
                f"the temporary files ({tempfile.gettempdir()})."
            )
        return reason
    # NumPy raises an error without a number if it could not write all bytes.
    if error.errno in (*NO_ROOM, None):
        return f"{file}: cannot be written ({reason}); expected room on its disk."
    if error.errno in NOT_ALLOWED and not _is_writable(Path(file)):
        return f"{file}: cannot be written ({reason}); expected a place where this user may write."
    expected = _EXPECTED_KIND.get(error.errno or 0)
    return f"{file}: cannot be used ({reason}); expected {expected}." if expected else f"{reason}: {file}"


def _is_writable(path: Path) -> bool:
    """Return whether this process may write a file, or make it if it does not exist."""
    if os.path.lexists(path):
        return os.access(path, os.W_OK)
    return path.parent == path or _is_writable(path.parent)


def store_sentence(error: Exception) -> str | None:
    """Return a sentence for an error of a tracking store or of its database; None for any other error.

    The modules are compared by name, because importing them takes seconds.
    """
    module = type(error).__module__.partition(".")[0]
    if module not in _STORE_MODULES:
        return None
    reason = store_reason(error)
    return (
        f"the tracking store cannot be used ({reason}); expected a store that can be read and written, with room on "
        "its disk."
    )


def store_reason(error: Exception) -> str:
    """Return why a tracking store or its database failed, without the statement that it was given."""
    status = re.search(r"failed with error code (\d+)", first_line(error))
    if status is not None and status[1] in _REFUSED_USER:
        return _REFUSED_USER[status[1]]
    # SQLAlchemy puts the error of the database in brackets, and the statement on the next lines.
    reason = re.sub(r"^\([\w.]+\) ", "", first_line(error))
    return str(getattr(error, "orig", "") or reason).rstrip(".")


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, or the name of its class if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
