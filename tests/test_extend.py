"""From outside the package, one function and one yaml add a part: those of docs/own_parts.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
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
from einthoven.command_line import option
from einthoven.runs.config.settings import build_task, check_settings
from einthoven.runs.results import conclude
from einthoven.terminal import option_plots
from einthoven.terminal.conf_folders import conf_folder
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
    page = ROOT / "docs" / "own_parts.md"
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        first, _, body = block.partition("\n")
        file = tmp_path / first.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + body)
    written = {file.parent.name: file.stem for file in (tmp_path / "my_conf").rglob("*.yaml")}
    assert written == PARTS | {"data": "class_folders"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


@pytest.mark.parametrize("block", blocks(ROOT / "docs" / "own_parts.md", "python"))
def test_each_block_of_the_page_imports_what_it_uses(block: str) -> None:
    """A reader may copy one block only."""
    check = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821", "-"]
    result = subprocess.run(check, input=block, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout


def test_the_parts_of_the_page_do_what_it_says(outside: Path) -> None:
    (command,) = [c for c in commands() if "hydra.searchpath" in c and "model=small" in c]
    assignment, program, verb, *overrides = shlex.split(command)
    assert (assignment, program, verb) == ("PYTHONPATH=.", "einthoven", "train")
    config = composed("train", *overrides)
    trust_named(config)
    check_settings(config)

    model = build(config.model)(in_channels=8, num_classes=5)
    x, y = torch.randn(4, 8, 250), torch.ones(4, 5)
    optimizer, before = build(config.optimizer)(model), model.conv.weight.clone()
    model(x).square().mean().backward()
    optimizer.step()
    assert not torch.equal(model.conv.weight, before)
    assert all(group["initial_lr"] == group["lr"] for group in optimizer.param_groups)
    half = torch.full((4, 5), 0.5)
    assert torch.equal(
        build_task(config).objective(0 * half, half.round(), output="sigmoid", prior=None), half[:, 0] ** 2
    )
    schedule = build(config.schedule)
    assert schedule(0, 10) == 1.0 and schedule(10, 10) == pytest.approx(0.01)
    augment = build(config.augment)
    assert list(augment)[-1] == "polarity" and "NORM" in augment.changes
    turned, _ = augment.transforms["polarity"](x, y, torch.Generator().manual_seed(0))
    assert torch.equal(turned.abs(), x.abs()) and not torch.equal(turned, x)


@pytest.fixture
def trained(
    outside: Path, corpus: Path, mlflow_db: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A folder, with letters that a shell and Hydra take for something else, where all parts have trained; the output.

    Drawing takes longer than training, and is tested elsewhere.
    """
    work = outside / "Müller [x], $daten"
    work.mkdir()
    shutil.copy(mlflow_db, work / "mlflow.db")
    monkeypatch.chdir(work)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    monkeypatch.setattr(conclude, "pictures", lambda *_: {})
    shutil.move(outside / "my_conf", work / "my_conf")
    chosen = [f"{group}={name}" for group, name in PARTS.items()]
    records = ["data=ptbxl", option("data.root", corpus), "data.folds.val=[9]", "data.folds.test=[10]"]
    short = ["trainer.epochs=1", "trainer.batch_size=8", "tracking.experiment=outside", "model.width=32"]
    store = option("tracking.uri", f"sqlite:///{work}/mlflow.db")  # MLflow keeps a relative one open across folders
    cli.main(["train", "hydra.searchpath=[file://my_conf]", *chosen, *records, *short, store])
    return work, capfd.readouterr().out


@pytest.mark.usefixtures("no_pictures")
def test_parts_of_ones_own_work_everywhere(
    trained: tuple[Path, str], corpus: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work, printed = trained
    client = mlflow.MlflowClient(f"sqlite:///{work}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("outside").experiment_id])
    told = {name: target for name, target in run.data.params.items() if str(target).startswith("my_parts.")}
    nested = {"augment._target_": "augment.transforms.polarity._target_"}
    assert set(told) == {nested.get(f"{group}._target_", f"{group}._target_") for group in PARTS}
    assert run.info.status == "FINISHED" and run.data.metrics["train/loss"] > 0
    rates = [metric.value for metric in client.get_metric_history(run.info.run_id, "watch/optim/lr")]
    steps = len(rates)
    assert rates == pytest.approx([0.01 + 0.99 * (1 - (t / steps) ** 2) ** 0.5 for t in range(steps)])

    # what is printed next can be pasted: it names the folder of the options, and each value as it was meant
    commands = [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("    einthoven ")]
    assert [words[0] for words in commands] == ["evaluate", "ui", "predict", "explain", "app", "train", "train"]
    evaluate, ui, predict, explain, app, again, sweep = commands
    assert ui == ["ui", f"uri=sqlite:///{work}/mlflow.db"]
    for words in (again, [word.split(",sgd")[0] for word in sweep if word not in ("-m", "seed=0,1,2")]):
        config = composed(*words)
        assert config.model._target_ == "my_parts.Small" and config.model.width == 32
        assert config.data.root == str(corpus) and config.tracking.uri == f"sqlite:///{work}/mlflow.db"

    # the run and its bundle name a module that is not part of the package
    for words in (evaluate, predict, explain, app):
        assert words[1:3] == ["--trust", "my_parts"]
    folder, record = predict[3:]
    assert app[3:] == [folder] and explain[3:] == [folder, record] and not Path(folder).is_absolute()
    for refused in (["predict", folder, record], ["evaluate", option("run", folder)]):
        with pytest.raises(SystemExit):
            cli.main(refused)
        assert ": this code is not part of einthoven; add --trust my_parts" in capfd.readouterr().err

    # the run predicts at once, with intervals, and each command runs as it is printed
    cli.main([*predict, "--json"])
    content = json.loads(capfd.readouterr().out)
    assert content["models"][0]["fitted_on"] == "4 records that were not trained on"
    assert any(content["records"][0]["intervals"].values())
    cli.main(explain)
    assert Path("explanation.pdf").stat().st_size > 10_000
    capfd.readouterr()
    cli.main([*evaluate, "resamples=10"])
    assert "Its probabilities are calibrated on" in capfd.readouterr().out
    cli.main([*predict, "--json"])
    assert "NORM" in json.dumps(json.loads(capfd.readouterr().out))


def test_options_of_ones_own_are_listed_and_a_mistake_in_them_is_answered_with_theirs(
    outside: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for named in (["hydra.searchpath=[file://my_conf]"], ["--config-dir", "my_conf"], ["--config-dir=my_conf"]):
        cli.main(["list", "models", "schedules", *named])
        shown = capfd.readouterr().out
        assert re.search(r"small +One convolution and its maximum over time +\(my_conf/model/small.yaml\)", shown)
        assert "quarter_circle" in shown and "conv_attention" in shown
        for wrong, expected in (
            (["model=small", "model.widht=32"], "model.widht: unknown; did you mean width? There are kernel, width."),
            (["model=small,mlp", "model.widht=32", "-m"], "did you mean width? There are kernel, width."),
            (["model=small", "model.in_channels=8"], "does not list it; give it as +model.in_channels=…"),
            (["model=smal"], "did you mean small"),
        ):
            with pytest.raises(SystemExit):
                cli.main(["train", *named, *wrong])
            assert expected in capfd.readouterr().err
    for nowhere in (["hydra.searchpath=[file://nowhere]"], ["--config-dir", "nowhere"]):
        for verb in (["list"], ["train"]):
            with pytest.raises(SystemExit):
                cli.main([*verb, *nowhere])
            assert capfd.readouterr().err == (
                "einthoven: error: nowhere: no such folder; expected one with folders of options, such as model/.\n"
            )


def test_a_schedule_of_ones_own_is_drawn_with_the_options_of_its_file(outside: Path) -> None:
    curve = option_plots.multipliers([conf_folder(), Path("my_conf")], "quarter_circle")
    expected = [0.01 + 0.99 * (1 - (step / option_plots.STEPS) ** 2) ** 0.5 for step in range(option_plots.STEPS)]
    assert curve == pytest.approx(expected)


def test_a_source_of_ones_own_is_trained_on(
    outside: Path, corpus: Path, mlflow_db: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for number, header in enumerate(sorted(corpus.rglob("*_lr.hea"))):
        folder = outside / "records" / ("AF" if number % 2 else "normal")
        folder.mkdir(parents=True, exist_ok=True)
        for file in (header, header.with_suffix(".dat")):
            shutil.copy(file, folder)
    source = ["hydra.searchpath=[file://my_conf]", "data=class_folders", "data.root=records"]
    cli.main(["prepare", *source])
    store = option("tracking.uri", f"sqlite:///{shutil.copy(mlflow_db, outside)}")
    cli.main(
        ["train", *source, "task=columns", "trainer.epochs=1", "model=logistic", "tracking.artifacts=false", store]
    )
    assert re.search(r"macro AUROC", capfd.readouterr().out)
    with pytest.raises(SystemExit):
        cli.main(["prepare", *source, "data.root=nowhere"])
    assert "data.root=nowhere: no files CLASS/*.hea in this folder." in capfd.readouterr().err
