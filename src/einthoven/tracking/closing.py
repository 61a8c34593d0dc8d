"""The end of a run in the tracking store, also after an error."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from einthoven.errors import UserError
from einthoven.tracking.privacy import without_folders
from einthoven.tracking.recorder import Recorder

_ERROR_LIMIT = 4000
"""Characters of the tag of a failed run."""


def error_tag(error: BaseException) -> dict[str, str]:
    """Return the tag of a failed run."""
    return {"error": without_folders(f"{type(error).__name__}: {error}")[:_ERROR_LIMIT]}


@contextmanager
def closing(recorder: Recorder) -> Iterator[Recorder]:
    """Finish the run at the end of the block: FINISHED, KILLED after Ctrl-C, or FAILED with the error as a tag."""
    with closing_on_error(recorder):
        yield recorder
    recorder.finish()


@contextmanager
def closing_on_error(recorder: Recorder) -> Iterator[None]:
    """Finish the run as KILLED after Ctrl-C, or as FAILED after another error of the block."""
    try:
        yield
    except KeyboardInterrupt:
        recorder.finish("KILLED")
        raise
    except BaseException as error:
        # If the disk is full, `error` says so already.
        with contextlib.suppress(UserError, OSError):
            recorder.tags(error_tag(error))
        with contextlib.suppress(UserError, OSError):
            recorder.finish("FAILED")
        raise
