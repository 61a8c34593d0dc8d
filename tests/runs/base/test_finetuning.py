"""Runs that start from an existing model: what is loaded, what trains, what is refused, and what is kept."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from mlflow import MlflowClient
from omegaconf import OmegaConf
from torch import Tensor, nn

from composing import composed
from einthoven import cli
from einthoven.build import build
from einthoven.contracts import Batch
from einthoven.data.ancestry import Ancestry
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.diagnostics.advice import advise
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.errors import UserError
from einthoven.functional.moments import lead_moments
from einthoven.functional.pca import PCA
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.mlp import MLP
from einthoven.models.time_frontend import TimeFrontend
from einthoven.optim.optimizers import adamw
from einthoven.optim.penalties import Penalty
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.predict.bundle import read_bundle
from einthoven.runs.base.finetuning import FineTuning, load_base
from einthoven.runs.base.read_base import read_base
from einthoven.runs.base.tuning_rate import tuning_rate
from einthoven.runs.folder.base_model import BaseModel, read_kept_base
from einthoven.runs.folder.trained_data import read_trained_data
from einthoven.runs.results.figures import principal_components
from einthoven.tasks.classification import Classification
from einthoven.terminal.conf_folders import conf_folder
from einthoven.training import checkpoint
from einthoven.training.step import train_step
from intervals import intervals
from small_runs import killed_after_epoch, sentence

Train = Callable[..., None]
BASE_CLASSES = ("A", "B", "C")
SAMPLES = 6


def a_model(classes: Sequence[str], seed: int) -> Classifier:
    """A network of the stages layer1, layer2 and head."""
    torch.manual_seed(seed)
    frontend = Frontend(3, 2)
    with torch.no_grad():
        for buffer in frontend.buffers():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return Classifier(frontend, MLP(2, len(classes), samples=SAMPLES, width=4, depth=2, dropout=0.5))


def a_base(model: Classifier, classes: Sequence[str] = BASE_CLASSES) -> BaseModel:
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return BaseModel("init_from=x", "a model", {}, state, tuple(classes), "sigmoid", 1.0, ("I",), 100.0, Ancestry())


def test_the_encoder_is_loaded_and_classes_of_the_same_name_keep_their_rows() -> None:
    base, model = a_base(a_model(BASE_CLASSES, 0)), a_model(("C", "D", "A"), 1)
    fresh = model.network.head.weight.detach().clone()
    loaded = load_base(model, base, ("C", "D", "A"))
    own = model.state_dict()
    for name, value in base.state.items():
        if "head" not in name:
            assert torch.equal(own[name], value), name
    for part in ("weight", "bias"):
        assert torch.equal(own[f"network.head.{part}"][[0, 2]], base.state[f"network.head.{part}"][[2, 0]])
    assert torch.equal(own["network.head.weight"][1], fresh[1])
    for words in ("frontend", "layer1, layer2", "rows of C, A", "new rows for D", "Not used: the rows of B"):
        assert words in loaded.sentence


def test_a_model_of_the_same_classes_is_loaded_as_a_whole() -> None:
    base, model = a_base(a_model(BASE_CLASSES, 0)), a_model(BASE_CLASSES, 1)
    load_base(model, base, BASE_CLASSES)
    assert all(torch.equal(value, base.state[name]) for name, value in model.state_dict().items())


def test_a_pretraining_run_gives_its_encoder_and_the_rest_is_named() -> None:
    base = a_base(a_model(("x",) * 7, 0), ())
    base = replace(base, state={**base.state, "decoder.weight": torch.zeros(2)})
    model = a_model(("A", "B"), 1)
    head = model.network.head.weight.detach().clone()
    sentence = load_base(model, base, ("A", "B")).sentence
    assert torch.equal(model.network.head.weight, head)
    assert torch.equal(model.network.layer1.linear.weight, base.state["network.layer1.linear.weight"])
    assert "The head is new." in sentence and "Not used: decoder, head." in sentence


def test_a_network_of_other_shapes_is_refused() -> None:
    base = a_base(a_model(BASE_CLASSES, 0))
    state = {**base.state, "network.layer2.linear.weight": torch.zeros(5, 4)}
    with pytest.raises(UserError, match=r"init_from=x: network.layer2.linear.weight is \(5, 4\) in the base"):
        load_base(a_model(BASE_CLASSES, 1), replace(base, state=state), BASE_CLASSES)


def train(
    model: Classifier,
    tuning: FineTuning,
    epochs: Sequence[int],
    optimizer: torch.optim.Optimizer | None = None,
    diagnose: StepDiagnostics | None = None,
) -> dict[str, Tensor]:
    """A step of each of these epochs, and the metrics of the last one."""
    optimizer = optimizer or adamw(model, lr=0.1)
    generator = torch.Generator().manual_seed(0)
    for epoch in epochs:
        model.train()
        tuning.begin_epoch(epoch)
        x = torch.randn(8, 3, SAMPLES, generator=generator)
        y = torch.rand(8, 3, generator=generator).round()
        metrics: dict[str, Tensor] = train_step(
            model,
            Classification("any", False, False, 0.0, False, 1.0),
            Batch(x, y, torch.arange(8), torch.ones(8, dtype=torch.bool)),
            optimizer,
            augment=lambda x, y, generator: (x, y),
            generator=generator,
            autocast=contextlib.nullcontext,
            clip_norm=math.inf,
            penalty=Penalty(),
            diagnose=diagnose,
        )
    return metrics


def moved(model: Classifier, before: dict[str, Tensor]) -> set[str]:
    """The stages with a tensor that has changed: a weight, or a running statistic."""
    after = model.state_dict()
    return {name.split(".")[1] for name in after if not torch.equal(after[name], before[name])}


@pytest.mark.parametrize(
    ("mode", "epochs", "expected"),
    [
        ("full", [0], {"layer1", "layer2", "head"}),
        ("probe", [0, 1, 2], {"head"}),
        ("gradual", [0], {"head"}),
        ("gradual", [0, 1], {"layer2", "head"}),
        ("gradual", [0, 1, 2], {"layer1", "layer2", "head"}),
    ],
)
def test_frozen_stages_do_not_move_and_neither_do_their_statistics(
    mode: str, epochs: list[int], expected: set[str]
) -> None:
    model = a_model(BASE_CLASSES, 0)
    tuning = FineTuning(model, mode, freeze_norms=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, tuning, epochs)
    assert moved(model, before) == expected
    # An evaluation in between changes nothing of that.
    model.eval()
    model.train()
    assert model.network.layer1.training == ("layer1" in expected) and model.network.head.training


@pytest.mark.parametrize("mode", ["probe", "gradual"])
def test_a_frozen_stage_is_not_measured_and_gives_no_advice(mode: str) -> None:
    model = a_model(BASE_CLASSES, 0)
    tuning = FineTuning(model, mode, freeze_norms=False)
    optimizer = adamw(model, lr=0.001)
    task = Classification("any", False, False, 0.0, False, 1.0)
    measured = intervals(gradients=1, updates=1, activations=1)
    diagnose = StepDiagnostics(model, task, optimizer, measured, autocast=contextlib.nullcontext)
    history: dict[str, tuple[list[int], list[float]]] = {}
    with diagnose.attach_hooks():
        for epoch in range(9):
            found = train(model, tuning, [epoch], optimizer, diagnose)
            for name, value in {**found, "watch/optim/lr": torch.tensor(0.001)}.items():
                history.setdefault(name, ([], []))[0].append(epoch)
                history[name][1].append(float(value))
    first_epochs = {"head": 0} if mode == "probe" else {"head": 0, "layer2": 1, "layer1": 2}
    for quantity in ("grad/norm", "update/norm", "update/ratio"):
        prefix = f"watch/{quantity}/"
        first_measured = {name.removeprefix(prefix): history[name][0][0] for name in history if name.startswith(prefix)}
        assert first_measured == first_epochs
    assert history.get("watch/grad/vanishing", ([], []))[0] == ([] if mode == "probe" else list(range(2, 9)))

    # With zeros for the frozen stages, the rules below would give advice.
    facts = {"stages": ["layer1", "layer2", "head"], "normalised": True, "layers": 3}
    limits = build(OmegaConf.load(conf_folder() / "advice" / "default.yaml"), "advice")
    rules = {item.rule for item in advise(history, facts, limits)}
    assert rules.isdisjoint({"vanishing_gradient", "learning_rate_low", "broken_init"})


def test_frozen_norms_keep_their_statistics_while_their_weights_move() -> None:
    model = a_model(BASE_CLASSES, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, FineTuning(model, "full", freeze_norms=True), [0, 1])
    after = model.state_dict()
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)]
    assert len(norms) == 2
    for name in norms:
        assert torch.equal(after[f"{name}.running_mean"], before[f"{name}.running_mean"])
        assert not torch.equal(after[f"{name}.weight"], before[f"{name}.weight"])


def test_gradual_needs_an_epoch_for_each_stage() -> None:
    tuning = FineTuning(a_model(BASE_CLASSES, 0), "gradual", freeze_norms=False)
    with pytest.raises(UserError, match="expected 3 epochs or more"):
        tuning.check_epochs(2)
    tuning.check_epochs(3)


def test_the_components_are_those_of_the_base_on_the_records_of_the_run() -> None:
    rng = np.random.default_rng(0)
    # Signals in µV that differ in the mixing of the leads and in their shapes: a random walk and noise
    old = 1000 * rng.normal(size=(4, 4)) @ rng.normal(size=(5, 4, 80)).cumsum(axis=2)
    new = 1000 * rng.normal(size=(4, 4)) @ rng.normal(size=(5, 4, 80))
    moments = lead_moments([old], scale=1e-3)
    frontends = {
        4: Frontend.fit(moments, mode="leads", k=2),
        8: TimeFrontend.fit(moments, [old * 1e-3], window=0.08, stride=0.02, k=3, whiten=True, fs=100.0),
    }
    for size, frontend in frontends.items():
        run = SimpleNamespace(
            base=object(),
            model=SimpleNamespace(frontend=frontend),
            moments=lead_moments([new], scale=1e-3),
            data=SimpleNamespace(splits={"train": SimpleNamespace(chunks=lambda: [new])}),
        )
        components, shares = principal_components(run)  # type: ignore[arg-type]
        # The samples of all leads, or all windows of a lead
        if size == 4:
            samples = np.moveaxis(new, 1, 2).reshape(-1, 4)
        else:
            samples = np.lib.stride_tricks.sliding_window_view(new, size, axis=2).reshape(-1, size)
        covariance = np.cov(samples, rowvar=False)
        basis = scipy.linalg.orth(frontend.projection.double().numpy().T)
        expected = np.trace(basis.T @ covariance @ basis) / np.trace(covariance)
        assert shares.sum() == pytest.approx(expected, rel=1e-5) and len(shares) == len(components)
        assert shares.sum() < PCA(len(shares)).fit(samples).explained_variance_ratio_.sum() - 1e-3


# Whole runs.

SMALL = ("model=mlp", "model.width=8", "model.depth=2", "augment=none", "diagnostics=none", "trainer.batch_size=8")
BARE = ("tracking.artifacts=false",)
OF_BASE = ("data.folds.train=[2,3,4]", "data.folds.val=[8]", "data.folds.test=[]")
OTHERS = ("data.folds.train=[5,6,7]", "data.folds.val=[8,9]", "data.folds.test=[1,10]")
SHORT = ("trainer.epochs=3", "trainer.batch_size=4", "augment=none", "diagnostics=none", *BARE)


@pytest.fixture
def base_run(train: Train, workplace: Path) -> Path:
    """The folder of a run, trained once; it has a bundle."""
    folder = workplace / "base"
    if not folder.exists():
        train(*SMALL, *BARE, *OF_BASE, "trainer.epochs=1", f"hydra.run.dir={folder}", "tracking.experiment=base")
    return folder


def same_tensors(a: Path, b: Path) -> bool:
    first, second = (checkpoint._flatten_state(checkpoint.load(path)[0])[0] for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def refused(train: Train, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(SystemExit) as exit_:
        train(*overrides)
    return sentence(exit_.value, capsys)


def test_a_run_goes_on_bit_for_bit_after_its_base_is_gone(
    train: Train, base_run: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = workplace / "gone"
    shutil.copytree(base_run, gone)
    tuning = (
        "trainer.finetune=gradual",
        "trainer.layer_decay=0.5",
        "trainer.ema=0.5",
        "penalty=kl_to_base",
        "task=subdiagnostic",
    )
    options = (f"init_from={gone}", "model.dropout=0.25", *tuning, *OTHERS, *SHORT, "tracking.experiment=tuned")
    train(*options, "hydra.run.dir=tuned/whole")
    shown = capsys.readouterr().out
    assert f"init_from={gone}, a run of the task superdiagnostic" in shown and "rows of NORM, STTC" in shown

    with killed_after_epoch(2):
        train(*options, "hydra.run.dir=tuned/cut")
    shutil.rmtree(gone)
    train("resume=tuned/cut")
    whole, cut = (workplace / "tuned" / name for name in ("whole", "cut"))
    assert same_tensors(whole / "checkpoints" / "last.safetensors", cut / "checkpoints" / "last.safetensors")

    # What is told of it, and what it has seen.
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run, _) = client.search_runs([client.get_experiment_by_name("tuned").experiment_id])  # type: ignore[union-attr]
    assert run.data.tags["init_from"] == f"…/gone ({read_kept_base(cut).sha256})"
    assert "Started from init_from=…/gone, a run of the task superdiagnostic" in run.data.tags["mlflow.note.content"]
    assert run.data.params["model.dropout"] == "0.25"
    assert run.data.params["model.width"] == "8"
    assert run.info.run_name == "ptbxl-mlp-from-gone-adamw-lr0.001-cosine-ema0.5-seed0"
    assert run.data.metrics["train/penalty"] > 0
    seen, of_base = (read_trained_data(run, "run", takes_added=True).ancestry.trained for run in (whole, base_run))
    assert set(of_base) < set(seen)
    bundle = read_bundle(whole / "bundle")
    assert bundle.ancestry is not None and set(bundle.ancestry.trained) == set(seen)
    assert "started from a run of the task superdiagnostic" in bundle.provenance["trained_on"]


@pytest.mark.parametrize(
    ("output", "overrides", "expected"),
    [
        ("sigmoid", (), 3e-4),
        ("softmax", ("trainer.finetune=gradual",), 3e-4),
        ("identity", (), 1e-3),
        ("sigmoid", ("trainer.layer_decay=0.5",), 1e-3),
        ("sigmoid", ("optimizer.lr=4e-3",), None),
        ("sigmoid", ("optimizer.lr=1e-2",), None),
        ("sigmoid", ("optimizer=sgd",), None),
        ("sigmoid", ("trainer.finetune=probe",), None),
    ],
)
def test_fine_tuning_has_its_own_learning_rate_unless_the_user_has_chosen_one(
    output: str, overrides: tuple[str, ...], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("train", *overrides, with_hydra=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    of_run = replace(a_base(a_model(BASE_CLASSES, 0)), output=output)
    assert tuning_rate(config, of_run, overrides) == expected


def test_a_pretraining_run_is_a_base(train: Train, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workplace / "pretrained"
    train("task=contrastive", *SMALL, *BARE, *OF_BASE, "trainer.epochs=1", f"hydra.run.dir={folder}")
    capsys.readouterr()
    train(
        f"init_from={folder}", *OTHERS, *SHORT, "trainer.epochs=1", "trainer.finetune=probe", "hydra.run.dir=classifier"
    )
    shown = capsys.readouterr().out
    assert "a run of the task contrastive" in shown
    assert "The head is new. Not used: decoder, head." in shown
    before, after = read_base(str(folder)).state, read_base(str(workplace / "classifier")).state
    encoder = {name for name in after if not name.startswith("network.head.")}
    assert len(encoder) > 10 and all(torch.equal(after[name], before[name]) for name in encoder)


def test_a_run_and_its_bundle_are_the_same_base(base_run: Path) -> None:
    of_run, of_bundle = read_base(str(base_run)), read_base(str(base_run / "bundle"))
    assert of_run.sha256 == of_bundle.sha256 and of_run.classes == of_bundle.classes
    assert of_run.options["model"] == of_bundle.options["model"] and of_run.options["pca"] == of_bundle.options["pca"]
    assert of_run.ancestry is not None and of_bundle.ancestry is not None
    np.testing.assert_array_equal(of_run.ancestry.trained, of_bundle.ancestry.trained)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model=conv_attention",), "model=conv_attention: model._target_ is einthoven.models.mlp.MLP in init_from="),
        (("model=mlp", "model.width=16"), "model=mlp: model.width is 8 in init_from="),
        (("model.head_dropout=0.2",), "model.head_dropout is None in init_from="),
        (("model.activation=silu",), "only dropout rates may differ"),
        (
            ("experiment=peer_xresnet1d101",),
            "model=xresnet1d101: model._target_ is",
        ),
        (("pca=whiten",), "pca=whiten: pca.mode is leads in init_from="),
        (("data.leads=[I,II]",), "reads the leads I II III"),
        (("data.fs=500",), "reads records at 100 Hz, and these have 500 Hz"),
        (("trainer.finetune=gradual", "trainer.epochs=2"), "trainer.epochs=2; expected 3 epochs"),
        (("trainer.finetune=probe", "trainer.layer_decay=0.5"), "trainer.layer_decay=0.5: expected 1 where"),
        (("trainer.finetune=half",), "trainer.finetune=half: expected full, probe or gradual"),
        (("penalty=kl_to_base", "task=form"), "penalty=kl_to_base: 0 classes of the run"),
        (("data.folds.val=[2]",), "was trained on 6 of the records of val, such as ecg_id 3"),
        (("data.folds.val=[2]", "data.seconds=5"), "was trained on 6 of the records of val, such as ecg_id 3"),
        (("folds=cv", "data.folds.train=[5,6,2]", "data.folds.val=[]", "data.folds.test=[]"), "of a held-out fold"),
        (("trainer.window=2.5",), "network.layer1.linear.weight is (8, 8000) in the base and (8, 2000) here"),
    ],
)
def test_what_does_not_suit_the_base_is_refused(
    train: Train, base_run: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], words: str
) -> None:
    assert words in refused(train, capsys, f"init_from={base_run}", *OTHERS, *SHORT, *overrides)


def test_records_behind_the_generator_of_a_base_are_noted_and_not_refused(
    train: Train, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    in_fold_9 = store.table["strat_fold"].to_numpy() == 9
    bundle = read_bundle(SYNTHETIC_BUNDLE)
    ancestry = Ancestry(generator=store.first_seconds[in_fold_9])
    replace(bundle, ancestry=ancestry).save(tmp_path / "base")
    folder = tmp_path / "run"
    options = ("augment=none", "diagnostics=none", "trainer.epochs=1", "trainer.batch_size=8", "data.folds.train=[1,2]")
    train(f"init_from={tmp_path / 'base'}", *options, "tracking.artifacts=false", f"hydra.run.dir={folder}")
    note = f"and not to the labels, of {in_fold_9.sum()} of the records of val"
    assert note in " ".join(capsys.readouterr().out.split())
    trained = read_trained_data(folder, "run", takes_added=True).ancestry
    assert trained.generator.tolist() == sorted(store.first_seconds[in_fold_9].tolist())
    # One record of the training folds has no label of the task.
    in_training = trained.in_training(store.digests, store.first_seconds)
    assert trained.first_seconds.size == 11 and store.table["strat_fold"][in_training].isin([1, 2]).all()


def test_options_without_a_base_are_refused(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("trainer.finetune=probe", "trainer.layer_decay=0.5", "trainer.freeze_norms=true"):
        assert f"{option}: needs a base" in refused(train, capsys, option, "init_from=null")
    for penalty in ("kl_to_base", "l2_to_base"):
        sentence = refused(train, capsys, f"penalty={penalty}", "init_from=null")
        assert f"penalty={penalty}: needs a base, which" in sentence and "expected init_from=RUN" in sentence


def test_a_delineation_and_another_task_are_no_base_for_each_other(
    train: Train, base_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentence = refused(train, capsys, f"init_from={base_run}", "task=delineation", "model.channels=[4,8]", *SHORT)
    assert "is a run of the task superdiagnostic (" in sentence and "expected the run of a delineation" in sentence
    delineation = replace(read_base(str(base_run)), output="masks")
    monkeypatch.setattr("einthoven.runs.base.read_base.read_base", lambda name: delineation)
    sentence = refused(train, capsys, f"init_from={base_run}", "model.channels=[4,8]", *SHORT)
    assert "is the run of a delineation" in sentence


def test_a_folder_that_is_no_base_is_refused(
    train: Train, base_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "neither a run nor a bundle" in refused(train, capsys, f"init_from={tmp_path}")
    assert "neither a run nor a bundle" in refused(train, capsys, f"init_from={tmp_path / 'nowhere'}")
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "config.yaml").write_text("model:\n  a: 1\n")
    assert "fitted to features" in refused(train, capsys, f"init_from={tmp_path / 'features'}")

    bundle = tmp_path / "bundle"
    shutil.copytree(base_run / "bundle", bundle)
    (bundle / "weights.safetensors").unlink()
    assert "weights.safetensors" in refused(train, capsys, f"init_from={bundle}")

    stranger = tmp_path / "stranger"
    shutil.copytree(base_run, stranger)
    config = yaml.safe_load((stranger / "config.yaml").read_text())
    config["model"]["_target_"] = "os.system"
    (stranger / "config.yaml").write_text(yaml.safe_dump(config))
    assert "model._target_=os.system" in refused(train, capsys, f"init_from={stranger}")


def test_a_base_that_changes_while_it_is_read_is_refused(
    train: Train, base_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = read_base(str(base_run))
    state = {name: value + 1 for name, value in base.state.items()}
    monkeypatch.setattr("einthoven.runs.start.read_base", lambda name: replace(base, state=state))
    words = f"has changed since this command was started (its hash was {base.sha256} and is"
    assert words in refused(train, capsys, f"init_from={base_run}", *OTHERS, *SHORT)


def test_a_damaged_last_checkpoint_of_the_base_is_reported(
    base_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(base_run, damaged)
    last = damaged / "checkpoints" / checkpoint.LAST
    shutil.copy(last, last.with_name(checkpoint.PREVIOUS))
    last.write_bytes(b"damaged")
    assert read_base(str(damaged)).sha256 == read_base(str(base_run)).sha256
    shown = capsys.readouterr()
    assert "last.safetensors" in shown.out + shown.err


def test_evaluate_refuses_records_that_the_base_has_seen(
    train: Train, base_run: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "probe"
    options = ("trainer.finetune=probe", "trainer.freeze_norms=true", "penalty=l2_to_base", "tracking.experiment=probe")
    train(f"init_from={base_run}", *options, *OTHERS, *SHORT, f"hydra.run.dir={folder}")
    before, after = read_base(str(base_run)).state, read_base(str(folder)).state
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"network.head.weight", "network.head.bias"}

    cli.main(["evaluate", f"run={folder}", "resamples=20"])
    assert "started from: init_from=…/base, a run of the task superdiagnostic" in (folder / "model_card.md").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        cli.main(["evaluate", f"run={folder}", "data.folds.val=[3]", "resamples=20"])
    assert "was trained on 5 of the records of val, such as ecg_id 5" in capsys.readouterr().err


def test_a_sweep_finds_its_finished_runs_again(
    train: Train, base_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (
        f"init_from={base_run}",
        *OTHERS,
        *SHORT,
        "trainer.epochs=1",
        "-m",
        "seed=0,1",
        "tracking.experiment=found",
    )
    train(*options)
    assert "has been trained already" not in capsys.readouterr().out
    train(*options)
    assert capsys.readouterr().out.count("has been trained already") == 2
