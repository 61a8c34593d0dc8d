"""The file of `einthoven embed`: Parquet, CSV or npz, written whole while the files are embedded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import einthoven
from einthoven.atomic import atomic
from einthoven.predict.embedding import Embedded, Encoder

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"einthoven"
"""Key of the metadata of a Parquet file. Its value is JSON."""

COLUMNS = {
    "record": ("file", "windows"),
    "window": ("file", "window", "start_s"),
    "token": ("file", "window", "token", "start_s"),
}
"""Columns before ``e0``, ``e1``, and so on."""

ROWS_AT_ONCE = 1 << 14
"""Rows that are written together."""


def describe_encoder(encoder: Encoder, rows: str) -> dict[str, Any]:
    """Return what identifies the model of embeddings."""
    return {
        "model": encoder.sha256,
        "model_is": f"SHA-256 of its {encoder.kind}",
        "network": type(encoder.model.network).__name__,
        "rows": rows,
        "leads": list(encoder.input_format.leads),
        "fs": encoder.input_format.fs,
        "seconds": encoder.input_format.seconds,
        "einthoven": einthoven.__version__,
    }


def write_embeddings(path: Path, results: Iterable[Embedded], encoder: Encoder, rows: str) -> tuple[int, list[str]]:
    """Write the embeddings of files, in their order. Nothing is written if there are none.

    The suffix of the path is the format, and `rows` is as in `einthoven.predict.embedding.embed_files`. Return the
    number of rows, and a sentence for each file without an embedding.
    """
    identity = describe_encoder(encoder, rows)
    count = 0
    reasons: list[str] = []
    with ExitStack() as stack:
        writer: Any = None
        for part in _parts(results, reasons):
            table = _table(part, rows, identity, path.suffix.lower() == ".csv")
            if writer is None:
                partial = stack.enter_context(atomic(path))
                writer = stack.enter_context(_open(partial, table.schema, identity))
            writer.write_table(table)
            count += table.num_rows
    return count, reasons


def _parts(results: Iterable[Embedded], reasons: list[str]) -> Iterator[list[Embedded]]:
    """Yield embedded files until there are enough rows to write. The reasons of the others are collected."""
    part: list[Embedded] = []
    for result in results:
        if result.refused is not None:
            reasons.append(result.refused)
            continue
        part.append(result)
        if sum(len(embedded.values) for embedded in part) >= ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _table(part: list[Embedded], rows: str, identity: dict[str, Any], names_model: bool) -> pa.Table:
    """Return the rows of some files. A CSV has no metadata, so that a column names the model."""
    import pyarrow as pa

    windows = np.concatenate([embedded.window for embedded in part])
    available = {
        "file": [str(embedded.file) for embedded in part for _ in embedded.window],
        "windows": windows,
        "window": windows,
        "token": np.concatenate([embedded.token for embedded in part]),
        "start_s": np.concatenate([embedded.start_s for embedded in part]),
    }
    columns = {name: available[name] for name in COLUMNS[rows]}
    if names_model:
        columns["model"] = [identity["model"]] * len(windows)
    values = np.concatenate([embedded.values for embedded in part])
    columns |= {f"e{number}": np.ascontiguousarray(column) for number, column in enumerate(values.T)}
    return pa.table(columns).replace_schema_metadata({METADATA: json.dumps(identity)})


def _open(path: Path, schema: pa.Schema, identity: dict[str, Any]) -> Any:
    """Return the writer of a format: a context manager with ``write_table``."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.ParquetWriter(path, schema)
    if suffix == ".csv":
        import pyarrow.csv

        return pyarrow.csv.CSVWriter(path, schema)
    return _NpzWriter(path, identity)


class _NpzWriter:
    """Collects tables, and writes arrays: ``embedding`` (rows, D), ``files``, the other columns, ``model`` (JSON)."""

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self._path = path
        self._identity = identity
        self._tables: list[pa.Table] = []

    def __enter__(self) -> Self:
        return self

    def write_table(self, table: pa.Table) -> None:
        """Collect a table."""
        self._tables.append(table)

    def __exit__(self, error: type[BaseException] | None, *details: object) -> None:
        """Write the arrays, if there was no error."""
        import pyarrow as pa

        if error is not None:
            return
        table = pa.concat_tables(self._tables)
        is_value = [name[0] == "e" and name[1:].isdigit() for name in table.column_names]
        others = {
            name: table[name].to_numpy() for name, value in zip(table.column_names, is_value, strict=True) if not value
        }
        # The first parameter of numpy.savez is called file.
        others["files"] = others.pop("file").astype(str)
        values = [table[name].to_numpy() for name, value in zip(table.column_names, is_value, strict=True) if value]
        np.savez(self._path, embedding=np.stack(values, axis=1), model=json.dumps(self._identity), **others)
