"""Runs of ``bench/bench_advice.py --draw 5`` as they were recorded: each still gets its advice, and nothing false."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.diagnostics.advice import advise
from einthoven.diagnostics.rules.base import Advice, Limits
from einthoven.terminal.conf_folders import conf_folder

RUNS: dict[str, Any] = {
    run["name"]: run for run in json.loads((Path(__file__).parent / "advice_runs.json").read_text()).values()
}
BROKEN = [name for name, run in RUNS.items() if run["expected"]]
HEALTHY = [name for name, run in RUNS.items() if not run["expected"]]


# Its validation loss rises by more than half.
TRUE_OF_HEALTHY = {"single label, vit1d, nadam, one_cycle, whiten, none, 32": ["overconfident"]}


@pytest.fixture(scope="module")
def advice() -> Mapping[str, list[Advice]]:
    """Return the advice on each run."""
    limits: Limits = build(OmegaConf.load(conf_folder() / "advice" / "default.yaml"), "advice")  # type: ignore[arg-type]
    return {name: advise(run["history"], run["facts"], limits) for name, run in RUNS.items()}


def test_there_are_twenty_causes_and_twenty_healthy_runs() -> None:
    assert len({RUNS[name]["expected"][0] for name in BROKEN}) == 20 and len(HEALTHY) == 20


@pytest.mark.parametrize("name", BROKEN)
def test_the_cause_of_a_broken_run_comes_first(name: str, advice: Mapping[str, list[Advice]]) -> None:
    assert advice[name][0].rule in RUNS[name]["expected"]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gets_no_advice_but_one_that_is_true(name: str, advice: Mapping[str, list[Advice]]) -> None:
    assert [item.rule for item in advice[name]] == TRUE_OF_HEALTHY.get(name, [])


@pytest.mark.parametrize("name", BROKEN)
def test_no_advice_on_a_run_is_the_opposite_of_another(name: str, advice: Mapping[str, list[Advice]]) -> None:
    changes = [remedy for item in advice[name] for remedy in item.remedies if remedy.knob]
    for remedy in changes:
        assert not [other for other in changes if (other.knob, other.direction) == (remedy.knob, -remedy.direction)]
