"""`UserError`, the exception that carries a message to the user, and sentences for errors of the operating system."""

import re

_STORE_MODULES = {"mlflow", "sqlalchemy", "sqlite3"}


class UserError(Exception):
    """A mistake in the input. The message is one sentence that names what was found and what was expected.

    The command line prints the message without a traceback and exits with code 2.
    """


def system_sentence(error: OSError | MemoryError) -> str:
    """Return a sentence for an error of the operating system: a file, the network, or the memory."""
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return f"not enough memory{detail}; expected smaller numbers, or fewer records at once."
    file = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{file}"


def store_sentence(error: Exception) -> str | None:
    """Return a sentence for an error of a tracking store or of its database; None for any other error.

    The modules are compared by name, because importing them takes seconds.
    """
    module = type(error).__module__.partition(".")[0]
    if module not in _STORE_MODULES:
        return None
    # SQLAlchemy puts the error of the database in brackets, and the statement on the next lines.
    reason = re.sub(r"^\([\w.]+\) ", "", first_line(error))
    cause = str(getattr(error, "orig", "") or reason)
    return (
        f"the tracking store cannot be used ({cause.rstrip('.')}); expected a store that can be read and written, with "
        "room on its disk."
    )


def first_line(error: BaseException) -> str:
    """Return the first line of the message of an error, or the name of its class if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
