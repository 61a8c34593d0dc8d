"""``init_from=auto``: which runs start from the network of generated ECGs, and which from fresh weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from composing import composed
from einthoven.predict import SYNTHETIC_BUNDLE
from einthoven.predict.model_folder import FOLD
from einthoven.runs.base_model import read_kept_base
from einthoven.runs.read_base import read_base, with_base

Train = Callable[..., None]
PTBXL = ("data=ptbxl", "data.root=nowhere")


def resolved(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> DictConfig:
    """The configuration of a run as the training gets it."""
    config = composed("train", *overrides, with_hydra=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", config)
    return with_base(composed("train", *overrides), list(overrides))


def test_the_five_classes_of_ptbxl_start_from_generated_ecgs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolved(monkeypatch, *PTBXL, "model.head_dropout=0.3")
    shown = " ".join(capsys.readouterr().out.split())
    base = read_base("synthetic")
    assert (config.init_from, config.init_from_sha256) == ("synthetic", base.sha256)
    assert f"starts from synthetic ({base.sha256})" in shown and "init_from=null starts from fresh weights" in shown
    # The network is the usual one: a user who changes nothing gets no other network with the base.
    usual = composed("train", *PTBXL, "model.head_dropout=0.3")
    assert config.model == usual.model and config.pca == usual.pca
    assert config.optimizer.lr < usual.optimizer.lr
    # A sweep resolves the configuration twice.
    again = with_base(config, [*PTBXL, "model.head_dropout=0.3"])
    assert all(again[name] == config[name] for name in ("init_from", "init_from_sha256", "model", "pca", "optimizer"))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("model.channels=[4,8,8]", "model.channels is [4, 8, 8] here and ["),
        ("model.channels=[64,128]", "model.channels is [64, 128] here and ["),
        ("model=xresnet1d18", "XResNet1d here and einthoven.models.conv_attention.ConvAttention there"),
        ("experiment=peer_resnet1d_wang", "model._target_ is"),
        ("pca=none", "pca.k is None here and 8 there"),
        ("data.fs=500", "data.fs is 500 here and 100.0 there"),
        ("data.leads=[I,II]", "data.leads is ['I', 'II'] here and ['I', 'II', 'III'"),
        ("data.leads=5", "data.leads is 5 here and ["),
        ("data.fs=fast", "data.fs is fast here and 100.0 there"),
        ("task=rhythm", "task.labels is rhythm here, and this start was judged with superdiagnostic"),
        ("task.single_label=true", "task.single_label is True here"),
        ("task=distill", "task._target_ is einthoven.tasks.distillation.Distillation here"),
        ("init=orthogonal", "init._target_ is einthoven.models.init.orthogonal here"),
    ],
)
def test_what_the_base_does_not_suit_starts_from_fresh_weights_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: str, reason: str
) -> None:
    config = resolved(monkeypatch, *PTBXL, option)
    shown = " ".join(capsys.readouterr().out.split())
    assert config.init_from is None and "init_from_sha256" not in config
    assert "init_from=auto: starts from fresh weights, and not from synthetic, because" in shown and reason in shown
    assert config.optimizer == composed("train", *PTBXL, option).optimizer


@pytest.mark.parametrize(
    "overrides",
    [
        ("data=synthetic",),
        ("data=folder", "data.root=nowhere"),
        (*PTBXL, "init_from=null"),
        (*PTBXL, "model=forest"),
        (*PTBXL, "task=contrastive"),
        (*PTBXL, "task=delineation"),
    ],
)
def test_other_runs_start_from_fresh_weights_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    monkeypatch.setattr("einthoven.runs.read_base.read_base", None)
    config = resolved(monkeypatch, *overrides)
    assert config.init_from is None and "init_from_sha256" not in config
    assert capsys.readouterr().out == ""


def test_a_folder_of_the_user_is_not_mistaken_for_the_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "synthetic").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolved(monkeypatch, *PTBXL).init_from == str(SYNTHETIC_BUNDLE)


def test_each_fold_of_a_cross_validation_starts_from_the_same_network(
    train: Train, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ("trainer.epochs=1", "trainer.batch_size=8", "diagnostics=none", "tracking.artifacts=false")
    train("folds=cv", "data.folds.train=[1,2]", *quick, "hydra.run.dir=cv")
    assert capsys.readouterr().out.count("init_from=auto: starts from synthetic") == 1
    base = read_base("synthetic")
    for fold in (1, 2):
        folder = workplace / "cv" / f"{FOLD}{fold}"
        options = yaml.safe_load((folder / "config.yaml").read_text())
        assert (options["init_from"], options["init_from_sha256"]) == ("synthetic", base.sha256)
        assert read_kept_base(folder).sha256 == base.sha256
