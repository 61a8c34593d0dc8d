from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from einthoven.errors import UserError
from einthoven.sweeps.search import Search

Jobs = list[list[str]]


def searched(objective: Callable[[dict[str, str]], dict[str, float]], *arguments: str, **options: Any) -> Jobs:
    """The runs that a search asks for, with a launcher that answers by a function of their options."""
    asked: Jobs = []

    def launch(jobs: Sequence[Sequence[str]], initial_job_idx: int) -> list[SimpleNamespace]:
        assert initial_job_idx == len(asked)
        asked.extend(map(list, jobs))
        return [SimpleNamespace(return_value=objective(dict(o.split("=", 1) for o in job))) for job in jobs]

    sweeper = Search(**{"trials": 12, "startup": 4, "batch": 1, "seed": 0, **options})
    sweeper.launcher = SimpleNamespace(launch=launch)  # type: ignore[assignment]  # what Hydra sets up
    sweeper.context = SimpleNamespace(config_loader=None)  # type: ignore[assignment]
    sweeper.sweep(list(arguments))
    return asked


def parabola(options: dict[str, str]) -> dict[str, float]:
    """Best where the learning rate is 1e-2."""
    return {"val/macro_auroc": 1 - 0.1 * (math.log10(float(options["lr"])) + 2) ** 2}


SPACE = "lr=tag(log, interval(1e-5, 1))"


def test_the_search_comes_nearer_than_chance_and_repeats_itself() -> None:
    asked = searched(parabola, SPACE, "model=mlp", trials=30)
    reached = [parabola(dict(o.split("=", 1) for o in job))["val/macro_auroc"] for job in asked]
    assert len(asked) == 30 and all("model=mlp" in job for job in asked)
    by_chance = 1 - 0.1 * (2**3 + 3**3) / 15  # the mean over the interval
    assert sum(reached[-10:]) / 10 > by_chance + 0.1
    assert searched(parabola, SPACE, "model=mlp", trials=30) == asked
    assert searched(parabola, SPACE, "model=mlp", trials=30, seed=1) != asked


def test_a_longer_search_begins_as_the_shorter_one() -> None:
    assert searched(parabola, SPACE, trials=15)[:10] == searched(parabola, SPACE, trials=10)


def test_every_kind_of_option_stays_what_it_may_be() -> None:
    params = {
        "lr": "interval(0.1, 0.2)",
        "n": "tag(log, int(interval(2, 64)))",
        "k": "range(1, 6, 2)",
        "act": "relu,tanh",
    }
    asked = searched(parabola, "lr=interval(0.3, 0.4)", params=params)  # the command line comes last
    found = [dict(o.split("=", 1) for o in job) for job in asked]
    assert all(0.3 <= float(each["lr"]) <= 0.4 and 2 <= int(each["n"]) <= 64 for each in found)
    assert {each["k"] for each in found} == {"1", "3", "5"} and {each["act"] for each in found} == {"relu", "tanh"}


def test_several_seeds_are_run_of_each_configuration() -> None:
    asked = searched(parabola, SPACE, "seed=0,1", trials=3, batch=2)
    assert [job[-1] for job in asked] == ["seed=0", "seed=1"] * 3
    assert [job[0] for job in asked[::2]] == [job[0] for job in asked[1::2]]


def test_a_run_that_fails_does_not_end_the_search() -> None:
    asked = searched(lambda o: {} if float(o["lr"]) > 1e-2 else parabola(o), SPACE)
    assert len(asked) == 12


def test_without_anything_to_search_there_is_one_run() -> None:
    assert searched(lambda _: {"val/r2": 0.0}, "model=mlp") == [["model=mlp"]]


def test_it_does_not_choose_by_test_records() -> None:
    with pytest.raises(UserError, match=r"data\.folds\.val"):
        searched(lambda _: {"test/macro_auroc": 0.9}, SPACE)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(UserError, match=r"hydra\.sweeper\.trials=0: expected a whole number, 1 or more"):
        searched(parabola, SPACE, trials=0)
    with pytest.raises(UserError, match="as in seed=0,1,2"):
        searched(parabola, "seed=interval(0, 3)")


@pytest.mark.parametrize(
    ("space", "found"),
    [
        ("interval(5, 1)", "from 5 to 1; expected the smaller number first"),
        ("tag(log, interval(0, 1))", "logarithmic from 0; expected numbers above 0"),
        ("tag(log, interval(-0.5, 1))", "logarithmic from -0.5; expected numbers above 0"),
        ("range(5, 1, -1)", "a range in steps of -1; expected steps above 0"),
        ("sort(range(1, 5), reverse=true)", "a range in steps of -1; expected steps above 0"),
        ("range(0.5, 0.1, -0.1)", "a range in steps of -0.1; expected steps above 0"),
        ("range(1, 5, 0)", "a range in steps of 0; expected steps above 0"),
        ("range(5, 5)", "a range without a number; expected one or more"),
        ("range(5, 1)", "a range without a number; expected one or more"),
    ],
)
def test_numbers_that_cannot_be_searched_are_one_sentence(space: str, found: str) -> None:
    with pytest.raises(UserError) as refusal:
        searched(parabola, f"lr={space}")
    assert str(refusal.value).startswith(f"lr={space}: ") and found in str(refusal.value)


def test_a_range_of_fractions_is_searched_in_its_steps() -> None:
    asked = searched(parabola, "lr=range(0.5, 2, 0.5)", trials=16, startup=16)
    assert {float(job[0].split("=")[1]) for job in asked} == {0.5, 1.0, 1.5}


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"install einthoven\[search\]"):
        searched(parabola, SPACE)
