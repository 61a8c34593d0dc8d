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
_MOST_NAMES = 1 << 26  # bytes
_AT_ONCE = 1 << 17  # rows in memory while the file is read


class Point(NamedTuple):
    """One value of a metric, or the mean of several."""

    metric: str
    value: float
    time: int  # ms since 1970
    step: int


class SeriesFile:
    """Every recorded value, in rows of fixed size appended to ``series.bin``; ``series.names`` names the metrics.

    What a killed run leaves is whole up to its last write. Memory does not grow with the run.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._rows, self._names = folder / "series.bin", folder / "series.names"
        self._rows.touch()
        self._names.touch()
        try:
            known = read_file(self._names, _MOST_NAMES).decode()
        except UnicodeDecodeError:
            raise UserError(f"{self._names}: damaged; expected the names of metrics.") from None
        os.truncate(self._names, len(known[: known.rfind("\n") + 1].encode()))  # a name that was cut short
        self._known = {name: k for k, name in enumerate(known[: known.rfind("\n") + 1].splitlines())}
        self.truncate(len(self))

    def __len__(self) -> int:
        """Rows in the file."""
        return self._rows.stat().st_size // _ROW.itemsize

    def append(self, points: Sequence[Point]) -> None:
        """Write points behind the others.

        Raises
        ------
        OSError
            If the disk is full; the files are as they were then.
        """
        before = self._names.stat().st_size, self._rows.stat().st_size
        new = [name for name in dict.fromkeys(p.metric for p in points) if name not in self._known]
        numbers = self._known | {name: len(self._known) + k for k, name in enumerate(new)}
        rows = np.array([(numbers[p.metric], p.step, p.time, p.value) for p in points], dtype=_ROW)
        try:
            with self._names.open("a") as file:
                file.writelines(f"{name}\n" for name in new)
            with self._rows.open("ab") as file:
                file.write(rows.tobytes())
        except OSError:
            os.truncate(self._names, before[0])
            os.truncate(self._rows, before[1])
            raise
        self._known = numbers

    def truncate(self, rows: int) -> None:
        """Forget all rows but the first ones, as a run does that goes back to its checkpoint."""
        os.truncate(self._rows, min(rows, len(self)) * _ROW.itemsize)

    def sync(self) -> None:
        """Have what was written survive a loss of power."""
        for path in (self._names, self._rows):
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def after(self, steps: Mapping[str, int]) -> Iterator[Point]:
        """Points beyond a step of their metric."""
        names = list(self._known)
        least = np.array([steps.get(name, -1) for name in names])
        for rows in self._chunks():
            if rows["metric"].max(initial=0) >= max(len(names), 1):
                raise UserError(f"{self._rows}: damaged; it has metrics without a name.")
            for metric, step, time, value in rows[rows["step"] > least[rows["metric"]]].tolist():
                yield Point(names[metric], value, time, step)

    def write_parquet(self, path: Path) -> None:
        """Write all rows as a table: metric, step, timestamp (ms since 1970), value; whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = pa.array(list(self._known), pa.string())
        schema = pa.schema(
            {"metric": pa.dictionary(pa.int32(), pa.string()), "step": pa.int64(), "timestamp": pa.timestamp("ms")}
            | {"value": pa.float64()}
        )
        with atomic(path) as partial, pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for rows in self._chunks():
                metric = pa.DictionaryArray.from_arrays(rows["metric"].astype(np.int32), names)
                columns = [metric, rows["step"], pa.array(rows["time"]).cast(pa.timestamp("ms")), rows["value"]]
                writer.write_batch(pa.record_batch(columns, schema=schema))

    def _chunks(self) -> Iterator[NDArray[np.void]]:
        with self._rows.open("rb") as file:
            while len(rows := np.fromfile(file, _ROW, _AT_ONCE)):
                yield rows


class Means:
    """Thin series to the means over intervals of steps, so that a metric of every step has few points.

    The interval is as short as `points` allows: of a run of no more steps than that, every value stays as it is. A
    mean stands at the last step and time at which its interval has a value. A metric with one value an interval is
    therefore not changed, and steps after the last one planned are intervals of their own.

    Parameters
    ----------
    steps : int
        Steps that are planned.
    points : int
        Most points of a metric.
    """

    def __init__(self, steps: int, points: int) -> None:
        self.interval, self._steps = max(1, -(-steps // points)), steps
        self._open: dict[str, tuple[int, float, int, Point]] = {}  # metric -> interval, sum, number, last point
        self._full: list[Point] = []

    def add(self, point: Point) -> None:
        """Take a value in."""
        place, beyond = (point.step - 1) // self.interval, point.step > self._steps
        held = self._open.get(point.metric)
        if held is not None and (held[0] != place or beyond):
            self._close(point.metric)
            held = None
        if self.interval == 1 or beyond:
            self._full.append(point)
        else:
            _, total, number, _ = held or (place, 0.0, 0, point)
            self._open[point.metric] = (place, total + point.value, number + 1, point)

    def take(self, step: int, *, everything: bool) -> list[Point]:
        """The means of the intervals that end at or before a step; of all of them where `everything` is asked for."""
        for metric, (place, _, _, _) in list(self._open.items()):
            if everything or step >= min((place + 1) * self.interval, self._steps):
                self._close(metric)
        taken, self._full = self._full, []
        return taken

    def _close(self, metric: str) -> None:
        _, total, number, last = self._open.pop(metric)
        self._full.append(last._replace(value=total / number))
