"""Each named set of augmentations works, and those that would make labels wrong are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from composing import composed
from einthoven.build import build
from einthoven.terminal.conf_folders import conf_folder

SETS = sorted(path.stem for path in (conf_folder() / "augment").glob("*.yaml"))
CHANGE_A_SUPERCLASS = {"amplitude", "time_stretch", "resized_crop", "electrode_swap", "vcg_rotation"}
OPTIONS = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "tracking.artifacts=false")


@pytest.mark.parametrize("name", SETS)
def test_each_set_augments(name: str) -> None:
    config = composed("train", f"augment={name}", "data.fs=500")
    x = torch.randn(16, 12, 5000, generator=torch.Generator().manual_seed(1))
    out, _ = build(config.augment)(x, torch.zeros(16, 5), torch.Generator().manual_seed(0))
    assert out.isfinite().all()
    assert torch.equal(out, x) == (name == "none")


@pytest.mark.parametrize("name", sorted(CHANGE_A_SUPERCLASS))
def test_what_makes_labels_wrong_is_refused(
    name: str, train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        train(*OPTIONS, f"augment={name}")
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "augment.allow_changes=true" in error
    assert any(f"{label} (" in error for label in ("CD", "HYP", "MI")), error


def test_it_trains_where_that_is_allowed(train: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    train(*OPTIONS, "augment=vcg_rotation", "augment.allow_changes=true", "tracking.experiment=augment")
    said = " ".join(capsys.readouterr().out.split())
    assert "vcg_rotation can make labels wrong: HYP (LVH), STTC (NDT). augment.allow_changes allows this." in said


def test_what_leaves_the_superclasses_alone_trains(train: Callable[..., None]) -> None:
    train(*OPTIONS, "augment=randaugment", "tracking.experiment=augment")


def test_mains_are_refused_where_they_cannot_be_recorded(
    train: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(*OPTIONS, "augment=powerline")
    assert "data.fs=500" in capsys.readouterr().err
