"""From outside the package, one function and one yaml add a part: those of docs/architecture.md."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from einthoven import cli, trust
from einthoven.build import build, trust_named
from einthoven.commands import assemble
from test_readme import ROOT, blocks, commands, composed

PARTS = {
    "augment": "polarity",
    "loss": "brier",
    "model": "small",
    "optimizer": "adadelta",
    "schedule": "quarter_circle",
}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    GlobalHydra.instance().clear()
    with trust.trusting([]):  # what a test adds ends with it
        yield
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with the parts of the page, and Python looking into it."""
    page = ROOT / "docs" / "architecture.md"
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        first, _, body = block.partition("\n")
        file = tmp_path / first.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + body)
    found = {file.parent.name: file.stem for file in (tmp_path / "my_conf").rglob("*.yaml")}
    assert found == PARTS
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


def test_the_parts_of_the_architecture_page_do_what_it_says(outside: Path) -> None:
    (command,) = [c for c in commands() if "hydra.searchpath" in c]
    assignment, program, verb, *overrides = shlex.split(command)
    assert (assignment, program, verb) == ("PYTHONPATH=.", "einthoven", "train")
    config = composed("train", *overrides)
    trust_named(config)
    assemble.settings(config)

    model = build(config.model)(in_channels=8, num_classes=5)
    x, y = torch.randn(4, 8, 250), torch.ones(4, 5)
    optimizer, before = build(config.optimizer)(model), model.conv.weight.clone()
    model(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.conv.weight, before)
    assert all(group["initial_lr"] == group["lr"] for group in optimizer.param_groups)
    half = torch.full((4, 5), 0.5)
    assert torch.equal(
        assemble.build_task(config).objective(0 * half, half.round(), output="sigmoid", prior=None), half[:, 0] ** 2
    )
    schedule = build(config.schedule)
    assert schedule(0, 10) == 1.0 and schedule(10, 10) == pytest.approx(0.01)
    augment = build(config.augment)
    assert list(augment)[-1] == "polarity" and "NORM" in augment.changes
    turned, _ = augment.transforms["polarity"](x, y, torch.Generator().manual_seed(0))
    assert torch.equal(turned.abs(), x.abs()) and not torch.equal(turned, x)


def test_they_train_from_the_command_line(outside: Path, corpus: Path, mlflow_db: Path) -> None:
    shutil.copy(mlflow_db, outside / "mlflow.db")
    uri = f"sqlite:///{outside}/mlflow.db"
    search = f"hydra.searchpath=[file://{outside / 'my_conf'}]"
    chosen = [f"{group}={name}" for group, name in PARTS.items()]
    records = ["data=ptbxl", f"data.root={corpus}"]
    short = ["trainer.epochs=1", "trainer.batch_size=8", f"tracking.uri={uri}", "tracking.experiment=outside"]
    cli.main(["train", search, *chosen, *records, *short])

    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("outside").experiment_id])
    told = {name: target for name, target in run.data.params.items() if str(target).startswith("my_parts.")}
    nested = {"augment._target_": "augment.transforms.polarity._target_"}
    assert set(told) == {nested.get(f"{group}._target_", f"{group}._target_") for group in PARTS}
    assert run.info.status == "FINISHED" and run.data.metrics["train/loss"] > 0
    rates = [metric.value for metric in client.get_metric_history(run.info.run_id, "watch/optim/lr")]
    steps = len(rates)
    assert rates == pytest.approx([0.01 + 0.99 * (1 - (t / steps) ** 2) ** 0.5 for t in range(steps)])
