"""A profile of some steps of a run."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from einthoven.diagnostics.layers import layer_costs
from einthoven.errors import UserError
from two_steps import Bench, Notes, composed
from two_steps import train as train_to_the_end


def test_the_layers_have_the_shapes_and_operations_of_their_closed_form() -> None:
    model = nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8 * 16, 7)
    ).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    costs = layer_costs(model, torch.randn(2, 3, 20), contextlib.nullcontext)
    assert [(cost.name, cost.kind) for cost in costs] == [
        ("0", "Conv1d"),
        ("1", "BatchNorm1d"),
        ("2", "ReLU"),
        ("3", "Flatten"),
        ("4", "Linear"),
        ("the whole model", "Sequential"),
    ]
    assert [cost.shape for cost in costs] == [(2, 8, 16), (2, 8, 16), (2, 8, 16), (2, 128), (2, 7), (2, 7)]
    assert [cost.parameters for cost in costs] == [128, 16, 0, 0, 903, 1047]
    convolution = 2 * 2 * 8 * 16 * 3 * 5
    linear = 2 * 2 * 128 * 7
    assert [cost.flops for cost in costs] == [convolution, 0, 0, 0, linear, convolution + linear]
    assert all(cost.forward_ms > 0 and cost.backward_ms > 0 for cost in costs)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_profile_has_its_steps_and_changes_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    plain = bench.assembled(composed("trainer.batch_size=12"))
    train_to_the_end(plain, Notes())
    profiled = bench.assembled(composed("trainer.batch_size=12", "trainer.profile=3"))
    train_to_the_end(profiled, Notes())
    printed = capfd.readouterr()
    assert "profiler_start" not in printed.err
    assert f"The profile is in {tmp_path / 'profile'}: layers.txt" in printed.out
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, profiled.model.state_dict()[name])
    folder = tmp_path / "profile"
    assert {file.name for file in folder.iterdir()} == {"layers.txt", "operations.txt", "trace.json"}
    assert "aten::addmm" in (folder / "operations.txt").read_text()
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    assert len({event["name"] for event in events if event.get("name", "").startswith("ProfilerStep#")}) == 3
    last = (folder / "layers.txt").read_text().splitlines()[-1].split()
    assert last[:4] == ["the", "whole", "model", "Classifier"]


def test_more_steps_than_the_run_has_are_refused_before_it_is_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"trainer\.profile=50: this run has 6 steps, .* expected at most 4"):
        bench.assembled(composed("trainer.batch_size=12", "trainer.profile=50"))
    bench.assembled(composed("trainer.batch_size=12", "trainer.profile=4"))


def test_a_run_that_ends_before_its_profile_is_concluded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch)
    config = composed("trainer.batch_size=12", "trainer.profile=3")
    run = bench.assembled(config)
    train_to_the_end(run, Notes())
    folder = tmp_path / "profile"
    (folder / "layers.txt").unlink()

    # Interrupted after its last step: no step is left, and the profile is finished.
    resumed = bench.assembled(config)
    resumed.load()
    train_to_the_end(resumed, Notes())
    assert (folder / "layers.txt").exists()

    # Lost with the machine
    shutil.rmtree(folder)
    resumed = bench.assembled(config)
    resumed.load()
    train_to_the_end(resumed, Notes())
    assert not folder.exists()


def test_a_profiled_run_says_so_in_its_name_and_is_not_profiled_again_next(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "diagnostics=none")
    train(*small, "trainer.profile=1", "tracking.artifacts=false", "tracking.experiment=profiled")
    shown = capsys.readouterr().out
    assert "This is the run ptbxl-logistic-adamw-cosine-profile1-seed0 (id " in " ".join(shown.split())
    following = shown.split("next")[-1]
    assert "optimizer=sgd" in following and "trainer.profile" not in following


def test_a_pretraining_with_pairs_of_records_is_profiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch)
    config = composed("task=contrastive", "task.pairs=patient", "trainer.batch_size=12", "trainer.profile=1")
    train_to_the_end(bench.assembled(config), Notes())
    assert "the whole model" in (tmp_path / "profile/layers.txt").read_text()
