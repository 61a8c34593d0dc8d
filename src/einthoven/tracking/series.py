"""The series of a run: all values on disk, and the means of them that the tracking store gets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.files import read_file

_ROW = np.dtype([("metric", "<u4"), ("step", "<i8"), ("time", "<i8"), ("value", "<f8")])

_NAMES_LIMIT = 1 << 26
"""Largest size of the file with the names in bytes."""

_ROWS_PER_CHUNK = 1 << 17


class Point(NamedTuple):
    """One value of a metric, or the mean of several values. The time is in ms since 1970."""

    metric: str
    value: float
    time: int
    step: int


class SeriesFile:
    """Every logged value, in rows of fixed size that are appended to ``series.bin``.

    ``series.names`` contains the names of the metrics. The files of a killed run are complete up to the last write. The
    memory does not grow with the run.

    Parameters
    ----------
    folder : Path
        ``tracking/`` in the folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rows_file = folder / "series.bin"
        self._names_file = folder / "series.names"
        self._rows_file.touch()
        self._names_file.touch()
        try:
            text = read_file(self._names_file, _NAMES_LIMIT).decode()
        except UnicodeDecodeError:
            raise UserError(f"{self._names_file}: damaged; expected the names of metrics.") from None
        # A killed run can leave half of a name, and half of a row.
        whole_lines = text[: text.rfind("\n") + 1]
        os.truncate(self._names_file, len(whole_lines.encode()))
        self._numbers = {name: number for number, name in enumerate(whole_lines.splitlines())}
        self.truncate(len(self))

    def __len__(self) -> int:
        """Number of rows in the file."""
        return self._rows_file.stat().st_size // _ROW.itemsize

    def append(self, points: Sequence[Point]) -> None:
        """Append points to the file.

        Raises an `OSError` if the disk is full. The files do not change in that case.
        """
        names_size = self._names_file.stat().st_size
        rows_size = self._rows_file.stat().st_size
        new_names = [name for name in dict.fromkeys(p.metric for p in points) if name not in self._numbers]
        numbers = dict(self._numbers)
        for name in new_names:
            numbers[name] = len(numbers)
        rows = np.array([(numbers[p.metric], p.step, p.time, p.value) for p in points], dtype=_ROW)
        try:
            with self._names_file.open("a") as file:
                file.writelines(f"{name}\n" for name in new_names)
            with self._rows_file.open("ab") as file:
                file.write(rows.tobytes())
        except OSError:
            os.truncate(self._names_file, names_size)
            os.truncate(self._rows_file, rows_size)
            raise
        self._numbers = numbers

    def truncate(self, rows: int) -> None:
        """Keep only the first rows, for a run that goes back to its checkpoint."""
        os.truncate(self._rows_file, min(rows, len(self)) * _ROW.itemsize)

    def last_steps(self) -> dict[str, int]:
        """Return the last step of each metric that has a row."""
        names = list(self._numbers)
        last = np.full(len(names), np.iinfo(np.int64).min)
        for rows in self._chunks():
            self._check_names(rows)
            np.maximum.at(last, rows["metric"], rows["step"])
        has_rows = last > np.iinfo(np.int64).min
        return {name: int(step) for name, step, is_logged in zip(names, last, has_rows, strict=True) if is_logged}

    def _check_names(self, rows: NDArray[np.void]) -> None:
        """Refuse rows whose metric has no name."""
        if rows["metric"].max(initial=0) >= max(len(self._numbers), 1):
            raise UserError(f"{self._rows_file}: damaged; it has metrics without a name.")

    def sync(self) -> None:
        """Write the files to the disk, so that they survive a loss of power."""
        for path in (self._names_file, self._rows_file):
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def after(self, steps: Mapping[str, int]) -> Iterator[Point]:
        """Yield the points behind a step of their metric; all points of a metric without a step."""
        names = list(self._numbers)
        last_steps = np.array([steps.get(name, -1) for name in names])
        for rows in self._chunks():
            self._check_names(rows)
            is_later = rows["step"] > last_steps[rows["metric"]]
            for metric, step, time, value in rows[is_later].tolist():
                yield Point(names[metric], value, time, step)

    def write_parquet(self, path: Path) -> None:
        """Write all rows as a table: metric, step, timestamp (ms since 1970), value. Write the whole file or none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = pa.array(list(self._numbers), pa.string())
        schema = pa.schema(
            {
                "metric": pa.dictionary(pa.int32(), pa.string()),
                "step": pa.int64(),
                "timestamp": pa.timestamp("ms"),
                "value": pa.float64(),
            }
        )
        with atomic(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for rows in self._chunks():
                metric = pa.DictionaryArray.from_arrays(rows["metric"].astype(np.int32), names)
                timestamp = pa.array(rows["time"]).cast(pa.timestamp("ms"))
                writer.write_batch(pa.record_batch([metric, rows["step"], timestamp, rows["value"]], schema=schema))

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        """Yield the rows of the file in parts."""
        with self._rows_file.open("rb") as file:
            while True:
                rows = np.fromfile(file, _ROW, _ROWS_PER_CHUNK)
                if not len(rows):
                    return
                yield rows


class _Interval(NamedTuple):
    """The values of a metric in an interval of steps that has not ended."""

    number: int
    total: float
    size: int
    last: Point


class Means:
    """Thin series to means over intervals of steps, so that a metric of every step has few points.

    The intervals are as short as `points` allows. If a run has at most `points` steps, no value changes. A mean gets
    the last step and time at which its interval has a value. So a metric with one value in each interval does not
    change. Each step after the last planned step is an interval of its own.

    Parameters
    ----------
    steps : int
        Planned number of steps.
    points : int
        Largest number of points of a metric.
    """

    def __init__(self, steps: int, points: int) -> None:
        self.interval = max(1, -(-steps // points))
        self._steps = steps
        self._open: dict[str, _Interval] = {}
        self._closed: list[Point] = []

    def add(self, point: Point) -> None:
        """Add a value."""
        number = (point.step - 1) // self.interval
        is_after_plan = point.step > self._steps
        interval = self._open.get(point.metric)
        if interval is not None and (interval.number != number or is_after_plan):
            self._close(point.metric)
            interval = None
        if self.interval == 1 or is_after_plan:
            self._closed.append(point)
        elif interval is None:
            self._open[point.metric] = _Interval(number, 0.0 + point.value, 1, point)
        else:
            self._open[point.metric] = _Interval(number, interval.total + point.value, interval.size + 1, point)

    def take(self, step: int, *, everything: bool) -> list[Point]:
        """Return and remove the means of the intervals that end at or before a step, or of all intervals."""
        for metric, interval in list(self._open.items()):
            last_step = min((interval.number + 1) * self.interval, self._steps)
            if everything or step >= last_step:
                self._close(metric)
        means = self._closed
        self._closed = []
        return means

    def _close(self, metric: str) -> None:
        """End the interval of a metric."""
        interval = self._open.pop(metric)
        self._closed.append(interval.last._replace(value=interval.total / interval.size))
