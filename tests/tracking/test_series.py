from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from einthoven.tracking.series import Means, Point, SeriesFile


def thinned(points: list[Point], steps: int, most: int, *, at_every: int) -> list[Point]:
    """What comes out of `Means` if it is asked every so many points."""
    means, found = Means(steps, most), []
    for k, point in enumerate(points, start=1):
        means.add(point)
        if k % at_every == 0:
            found += means.take(point.step, everything=False)
    return found + means.take(points[-1].step if points else 0, everything=True)


@given(
    steps=st.integers(1, 400),
    most=st.integers(1, 50),
    at_every=st.integers(1, 60),
    start=st.integers(1, 20),
)
def test_means_lose_nothing_and_are_no_more_than_asked_for(steps: int, most: int, at_every: int, start: int) -> None:
    values = np.random.default_rng(steps).normal(size=steps + 1)
    points = [Point("a", values[step], 10 * step, step) for step in range(min(start, steps), steps + 1)]
    found = thinned(points, steps, most, at_every=at_every)
    interval = math.ceil(steps / most)
    assert len(found) <= most
    # Every interval is the mean of its values, and stands at the last step and time that it has.
    for place, point in enumerate(found, start=(points[0].step - 1) // interval):
        inside = [p for p in points if place * interval < p.step <= (place + 1) * interval]
        assert (point.step, point.time) == (inside[-1].step, inside[-1].time)
        assert point.value == pytest.approx(np.mean([p.value for p in inside]))


def test_a_metric_that_is_rare_is_not_changed() -> None:
    every = [Point("train/loss", float(step), step, step) for step in range(1, 1001)]
    rare = [Point("val/loss", float(step), step, step) for step in range(25, 1001, 75)]
    both = sorted(every + rare, key=lambda p: p.step)
    found = thinned(both, 1000, 50, at_every=7)
    assert [p for p in found if p.metric == "val/loss"] == rare
    assert len([p for p in found if p.metric == "train/loss"]) == 50


def test_a_short_run_and_what_comes_after_the_last_step_stay_as_they_are() -> None:
    short = [Point("a", 1.0 / step, step, step) for step in range(1, 51)]
    assert thinned(short, 50, 50, at_every=3) == short
    means = Means(100, 10)
    for point in (Point("a", 1.0, 1, 100), Point("a", 5.0, 2, 101), Point("a", 7.0, 3, 102)):
        means.add(point)
    assert [p.value for p in means.take(102, everything=False)] == [1.0, 5.0, 7.0]


def test_an_interval_is_told_as_soon_as_it_ends() -> None:
    means = Means(100, 10)
    means.add(Point("val/loss", 0.5, 1, 15))
    assert means.take(19, everything=False) == []
    assert means.take(20, everything=False) == [Point("val/loss", 0.5, 1, 15)]


def test_the_mean_of_what_is_not_finite_is_not_finite() -> None:
    (mean,) = thinned([Point("a", 1.0, 1, 1), Point("a", math.nan, 2, 2)], 10, 1, at_every=5)
    assert math.isnan(mean.value)


def table(folder: Path) -> list[tuple[str, int, int, float]]:
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return [(r["metric"], r["step"], int(r["timestamp"].timestamp() * 1000), r["value"]) for r in rows]


def test_every_value_is_in_the_table_across_a_restart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    points = [Point(f"m{k % 3}", rng.normal(), 1_700_000_000_000 + k, k // 3) for k in range(3000)]
    points[7] = points[7]._replace(value=math.inf)
    SeriesFile(tmp_path).append(points[:1000])
    series = SeriesFile(tmp_path)
    series.append([*points[1000:], Point("late", 1.0, 1_700_000_000_000, 1)])
    assert len(series) == 3001
    series.write_parquet(tmp_path / "metrics.parquet")
    expected = [(p.metric, p.step, p.time, p.value) for p in points]
    assert table(tmp_path) == [*expected, ("late", 1, 1_700_000_000_000, 1.0)]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_a_kill_has_cut_short_is_whole_again(tmp_path: Path) -> None:
    points = [Point("train/loss", float(k), k, k) for k in range(10)]
    SeriesFile(tmp_path).append(points)
    os.truncate(tmp_path / "series.bin", (tmp_path / "series.bin").stat().st_size - 5)
    with (tmp_path / "series.names").open("a") as names:
        names.write("val/lo")
    series = SeriesFile(tmp_path)
    assert list(series.after({})) == points[:9]
    series.append([Point("val/loss", 1.0, 1, 1)])
    assert list(series.after({"train/loss": 7})) == [points[8], Point("val/loss", 1.0, 1, 1)]


def test_a_run_goes_back_to_its_checkpoint(tmp_path: Path) -> None:
    series = SeriesFile(tmp_path)
    series.append([Point("a", float(k), k, k) for k in range(10)])
    series.truncate(6)
    series.append([Point("a", 60.0, 6, 6)])
    assert [p.value for p in series.after({"a": 4})] == [5.0, 60.0]


def test_the_last_step_of_each_metric(tmp_path: Path) -> None:
    series = SeriesFile(tmp_path)
    assert series.last_steps() == {}
    series.append([Point("a", 1.0, 0, 0), Point("b", 1.0, 0, 7), Point("a", 1.0, 0, 4), Point("c", 1.0, 0, 9)])
    series.truncate(3)
    assert series.last_steps() == {"a": 4, "b": 7}
