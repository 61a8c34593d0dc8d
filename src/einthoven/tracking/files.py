"""Files of a run: pictures, texts, tables and arrays. They stay in the folder of the run until they are sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic, working_folder
from einthoven.interrupts import deferred
from einthoven.tracking.beside import beside
from einthoven.tracking.run_folder import explain_full_disk
from einthoven.tracking.spool import Entry, Spool

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE = "probe.npz"
"""Artifact with the arrays of an analysis."""

FIGURES = "figures"
"""Folder of the pictures, in the folder of a run and among its artifacts."""


_COMPRESSION = 3
"""Level of the compression of pictures. The usual level, 6, needs 1.6 times as long, and its files are 13 % smaller."""


class Files:
    """The part of a `Recorder` that logs files. Pictures stay in the folder of the run after they are sent.

    Parameters
    ----------
    folder : Path
        Folder of the run. Pictures are in its ``figures/``, other files in its ``tracking/files/`` until the store
        has them.
    files : Spool
        The spool that sends them.
    """

    def __init__(self, folder: Path, files: Spool) -> None:
        self._run_folder = folder
        self._folder = folder / "tracking"
        self._files = files

    def figure(self, figure: Figure, name: str) -> None:
        """Log a picture under ``figures/``."""
        with explain_full_disk(self._run_folder), atomic(self._figures() / f"{name}.png") as path:
            _save(figure, path)
        self._put_figure(name)

    @contextmanager
    def figures(self, figures: Mapping[str, Figure]) -> Iterator[None]:
        """Log pictures. Another process writes them while the block runs, if there is a second core."""
        with working_folder(self._run_folder) as folder:

            def save_all() -> None:
                with explain_full_disk(self._run_folder):
                    for name, figure in figures.items():
                        _save(figure, folder / f"{name}.png")

            with beside(save_all):
                yield
            place = self._figures()
            for name in figures:
                (folder / f"{name}.png").replace(place / f"{name}.png")
                self._put_figure(name)

    def _figures(self) -> Path:
        """Return the folder of the pictures, and make it if there is none."""
        place = self._run_folder / FIGURES
        place.mkdir(exist_ok=True)
        return place

    def _put_figure(self, name: str) -> None:
        self._put_file(self._run_folder / FIGURES / f"{name}.png", FIGURES, staged=False)

    def text(self, text: str, path: str) -> None:
        """Log a text file."""
        with self._staging(path) as staged:
            staged.write_text(text)

    def table(self, columns: Mapping[str, list[Any]], path: str) -> None:
        """Log a table: as ``.json``, which the page of MLflow shows as a table, or as ``.parquet``, which is small."""
        if path.endswith(".parquet"):
            import pyarrow as pa
            import pyarrow.parquet as pq

            with self._staging(path, table=True) as staged:
                pq.write_table(pa.table(dict(columns)), staged)
            return
        rows = [[_json_value(value) for value in row] for row in zip(*columns.values(), strict=True)]
        with self._staging(path, table=True) as staged:
            staged.write_text(json.dumps({"columns": list(columns), "data": rows}))

    def file(self, path: Path, folder: str) -> None:
        """Log a file. A file in the folder of the run is not copied. It must stay there until it is sent."""
        if path.resolve().is_relative_to(self._run_folder.resolve()):
            self._put_file(path, folder, staged=False)
        else:
            with self._staging(f"{folder}/{path.name}") as staged:
                shutil.copy2(path, staged)

    def arrays(self, arrays: Mapping[str, NDArray[Any]], name: str = PROBE) -> None:
        """Log named arrays in one file, which loads without pickle."""
        with self._staging(name) as path:
            np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # the stub has names before them

    @contextmanager
    def _staging(self, path: str, *, table: bool = False) -> Iterator[Path]:
        """Yield the path of a file for writing, and put the file into the spool at the end."""
        with self._staged_path(path) as staged:
            yield staged
        self._put_file(staged, folder_of(path), table=table)

    @contextmanager
    def _staged_path(self, path: str) -> Iterator[Path]:
        """Yield a path for a file until it is sent, in a new folder of its own."""
        folder = self._folder / "files" / str(self._files.size)
        with explain_full_disk(self._run_folder):
            # A failed attempt can have left the folder.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            yield folder / PurePosixPath(path).name

    def _put_file(self, path: Path, place: str, *, table: bool = False, staged: bool = True) -> None:
        """Put a file into the spool, for the folder `place` of the artifacts."""
        relative = path.relative_to(self._folder) if staged else Path("..") / path.relative_to(self._run_folder)
        content = {"path": str(relative), "place": place, "table": table, "staged": staged}
        self._put(self._files, {"file": content})

    def _put(self, spool: Spool, entry: Entry) -> None:
        with deferred(), explain_full_disk(self._run_folder):
            spool.put(entry)


def _save(figure: Figure, path: Path) -> None:
    # Each figure states its dots per inch: a page of several records has fewer than a plot.
    figure.savefig(path, dpi="figure", pil_kwargs={"compress_level": _COMPRESSION})


def folder_of(path: str) -> str:
    """Return the folder of a path in a run; empty for a file at the top."""
    folder = str(PurePosixPath(path).parent)
    return "" if folder == "." else folder


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
