"""The files of a run: pictures, texts, tables, arrays; kept in its folder until they are sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.tracking.run_folder import full_disk_told
from einthoven.tracking.spool import Entry, Spool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE = "probe.npz"
"""Artifact with the arrays that a probe found."""


class Files:
    """What a `Recorder` does with files.

    Parameters
    ----------
    folder : Path
        The run's own folder: files are in ``tracking/files/`` there until the store has them.
    files : Spool
        Sends them.
    """

    def __init__(self, folder: Path, files: Spool) -> None:
        self._run_folder, self._folder = folder, folder / "tracking"
        self._files = files

    def figure(self, figure: Figure, name: str) -> None:
        """Log a picture under ``figures/``."""
        path = self._staged(f"figures/{name}.png")
        figure.savefig(path, dpi=150)
        self._file(path, "figures")

    def text(self, text: str, path: str) -> None:
        """Log a text file."""
        staged = self._staged(path)
        staged.write_text(text)
        self._file(staged, folder_of(path))

    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """Log a table, shown by the MLflow page as such."""
        staged = self._staged(path)
        rows = [[_in_json(value) for value in row] for row in zip(*columns.values(), strict=True)]
        staged.write_text(json.dumps({"columns": list(columns), "data": rows}))
        self._file(staged, folder_of(path), table=True)

    def file(self, path: Path, folder: str) -> None:
        """Log a file; one of the run's folder is not copied, and stays there until it is sent."""
        if path.resolve().is_relative_to(self._run_folder.resolve()):
            self._file(path, folder, staged=False)
        else:
            self._file(Path(shutil.copy2(path, self._staged(path.name))), folder)

    def arrays(self, found: Mapping[str, NDArray[Any]], name: str = PROBE) -> None:
        """Log named arrays in one file, which loads without pickle."""
        path = self._staged(name)
        np.savez_compressed(path, **found)  # type: ignore[arg-type]  # the stub has names before them
        self._file(path, "")

    def _staged(self, path: str) -> Path:
        """A place for a file until it is sent, in a folder of its own."""
        folder = self._folder / "files" / str(self._files.size)
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
        folder.mkdir(parents=True)
        return folder / PurePosixPath(path).name

    def _file(self, path: Path, place: str, *, table: bool = False, staged: bool = True) -> None:
        relative = path.relative_to(self._folder) if staged else Path("..") / path.relative_to(self._run_folder)
        content = {"path": str(relative), "place": place, "table": table, "staged": staged}
        self._put(self._files, {"file": content})

    def _put(self, spool: Spool, entry: Entry) -> None:
        with full_disk_told(self._run_folder):
            spool.put(entry)


def folder_of(path: str) -> str:
    """Of a path in a run; empty at the top."""
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder


def _in_json(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
