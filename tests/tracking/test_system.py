from __future__ import annotations

import importlib.util
import time

import pytest

from einthoven.errors import UserError
from einthoven.tracking.system import SystemMetrics


def test_samples_of_the_machine_have_the_names_that_mlflow_shows() -> None:
    sampler = SystemMetrics(interval=0.05)
    samples = []
    for _ in range(600):
        if samples := sampler.take():
            break
        time.sleep(0.05)
    sampler.stop()
    (_, values), *_ = samples
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_percentage"} <= set(values)
    assert 0 < values["system/system_memory_usage_percentage"] < 100


def test_without_psutil_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="install einthoven"):
        SystemMetrics()
