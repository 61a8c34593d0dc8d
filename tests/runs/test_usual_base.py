"""``init_from=auto``: which runs start from the network of generated ECGs, and which from fresh weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from composing import composed
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.runs.base.read_base import read_base, with_base

PTBXL = ("data=ptbxl", "data.root=nowhere")


def resolved(monkeypatch: pytest.MonkeyPatch, *overrides: str, named: tuple[str, ...] | None = None) -> DictConfig:
    """The configuration of a run as the training gets it.

    `named` are the overrides of the command line, if a recipe has set the others.
    """
    config = composed("train", *overrides, with_hydra=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    return with_base(composed("train", *overrides), list(overrides if named is None else named))


def output(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_the_five_classes_of_ptbxl_start_from_generated_ecgs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(monkeypatch, *PTBXL, "model.head_dropout=0.3")
    base = read_base("synthetic")
    assert (config.init_from, config.init_from_sha256) == ("synthetic", base.sha256)
    assert output(capsys) == (
        f"The run starts from synthetic ({base.sha256}), a network that has learned generated ECGs, with "
        "optimizer.lr=0.001 (init_from=auto). With init_from=null, it would start from fresh weights."
    )
    # The network is the usual one: a user who changes nothing gets no other network with the base.
    usual = composed("train", *PTBXL, "model.head_dropout=0.3")
    assert config.model == usual.model and config.pca == usual.pca
    # A sweep resolves the configuration twice.
    again = with_base(config, [*PTBXL, "model.head_dropout=0.3"])
    assert all(again[name] == config[name] for name in ("init_from", "init_from_sha256", "model", "pca", "optimizer"))
    assert output(capsys) == ""


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ((), 1e-3),
        (("optimizer.lr=4e-3",), 4e-3),
        (("optimizer=sgd",), None),
        (("init_from=synthetic",), 3e-4),
    ],
)
def test_the_learning_rate_is_the_judged_one_unless_the_user_has_chosen(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], rate: float | None
) -> None:
    config = resolved(monkeypatch, *PTBXL, *options)
    own_rate = composed("train", *PTBXL, *options).optimizer.lr
    assert config.init_from == "synthetic" and config.optimizer.lr == (own_rate if rate is None else rate)


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("model.channels=[4,8,8]", "model.channels is [4, 8, 8] here and ["),
        ("model.channels=[32,64,64]", "model.channels is [32, 64, 64] here and ["),
        ("model=xresnet1d18", "XResNet1d here and einthoven.models.conv_attention.ConvAttention there"),
        ("experiment=peer_resnet1d_wang", "model._target_ is"),
        ("pca=none", "pca.k is None here and 8 there"),
        ("data.fs=500", "data.fs is 500 here and 100.0 there"),
        ("data.leads=[I,II]", "data.leads is ['I', 'II'] here and ['I', 'II', 'III'"),
        ("data.leads=5", "data.leads is 5 here and ["),
        ("data.fs=fast", "data.fs is fast here and 100.0 there"),
        ("task=rhythm", "task.labels is rhythm here, and this start was judged with superdiagnostic"),
        ("task.single_label=true", "task.single_label is True here"),
        ("task.targets=all", "task.targets is all here"),
        # Nothing can be learned from such labels, and the base knows the true ones.
        ("task.shuffle_labels=true", "task.shuffle_labels is True here"),
        ("task=distill", "task._target_ is einthoven.tasks.distillation.Distillation here"),
        ("init=orthogonal", "init._target_ is einthoven.models.init.orthogonal here"),
    ],
)
def test_what_the_base_does_not_suit_starts_from_fresh_weights_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, reason: str
) -> None:
    config = resolved(monkeypatch, *PTBXL, option)
    shown = output(capsys)
    assert config.init_from is None and "init_from_sha256" not in config
    assert "The run starts from fresh weights, and not from synthetic (init_from=auto), because" in shown
    assert reason in shown
    assert config.optimizer == composed("train", *PTBXL, option).optimizer


def test_a_dropout_rate_of_a_recipe_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(monkeypatch, *PTBXL, "model.head_dropout=0.3", named=PTBXL)
    assert config.init_from is None and config.model.head_dropout == 0.3
    assert "because model.head_dropout is 0.3 here and 0.5 there" in output(capsys)


@pytest.mark.parametrize(
    ("options", "fold"),
    [
        (("folds=cv",), "fold 1 is judged (folds=cv)"),
        (("folds=cv", "data.folds.train=[9,10,2]"), "fold 2 is judged (folds=cv)"),
        (("data.folds.train=[1,2]", "data.folds.val=[9,3]"), "fold 3 is judged (data.folds.val)"),
        (("data.folds.train=[1,2]", "data.folds.test=[8]"), "fold 8 is judged (data.folds.test)"),
    ],
)
def test_a_fold_that_the_generator_knows_is_judged_from_fresh_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], fold: str
) -> None:
    assert resolved(monkeypatch, *PTBXL, *options).init_from is None
    assert output(capsys) == (
        f"The run starts from fresh weights, and not from synthetic (init_from=auto), because {fold}, and the "
        "generator behind synthetic was fitted to signals of the folds 1 2 3 4 5 6 7 8."
    )
    # Who names the base gets it. The records that its generator knows are counted when the records are read.
    assert resolved(monkeypatch, *PTBXL, *options, "init_from=synthetic").init_from == "synthetic"


@pytest.mark.parametrize(
    "options",
    [("folds=cv", "data.folds.train=[9,10]"), ("data.folds.val=[]", "data.folds.test=[]")],
    ids=" ".join,
)
def test_a_fold_that_the_generator_does_not_know_may_be_judged(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    assert resolved(monkeypatch, *PTBXL, *options).init_from == "synthetic"


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=synthetic",),
        ("data=folder", "data.root=nowhere"),
        (*PTBXL, "init_from=null"),
        (*PTBXL, "model=forest"),
        (*PTBXL, "task=contrastive"),
        (*PTBXL, "task=delineation"),
        ("experiment=batch_noise", *PTBXL),
    ],
    ids=" ".join,
)
def test_other_runs_start_from_fresh_weights_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    monkeypatch.setattr("einthoven.runs.base.read_base.read_base", None)
    config = resolved(monkeypatch, *overrides)
    assert config.init_from is None and "init_from_sha256" not in config
    assert output(capsys) == ""


def test_a_folder_of_the_user_is_not_mistaken_for_the_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolved(monkeypatch, *PTBXL).init_from == str(SYNTHETIC_BUNDLE)
