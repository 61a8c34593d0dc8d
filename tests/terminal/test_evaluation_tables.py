"""The tables of an evaluation."""

from __future__ import annotations

from rich.console import Console

from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.operating_points import Point, Rule
from einthoven.terminal.evaluation_tables import RATES, points_table


def test_a_small_negative_difference_is_zero() -> None:
    interval = Interval(low=-0.004, high=0.051, level=0.95, resamples=10, complete=10, classes_missing_share=0.0)
    rates = dict.fromkeys(RATES, 0.9)
    point = Point(0.5, rates, rates, dict.fromkeys(RATES), transfer=-0.003, transfer_interval=interval)
    console = Console(width=200)
    with console.capture() as capture:
        console.print(points_table({"MI": point}, Rule("youden")))
    assert "+0.00 (+0.00 to +0.05)" in capture.get()
