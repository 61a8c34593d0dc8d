"""What a path is: a run, a bundle, or neither."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from pathlib import Path

import pytest

from einthoven import tasks
from einthoven.errors import UserError
from einthoven.predict.delineator import PACKAGED
from einthoven.predict.model_folder import (
    PRETEXT_TASKS,
    PTBXL_BUNDLE,
    SYNTHETIC_BUNDLE,
    ModelFolder,
    find_bundle,
    find_model,
    named_folder,
)
from einthoven.tasks.pretext import Pretext, TokenPretext


def test_a_run_a_bundle_and_both(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    assert find_model(run, "a") == ModelFolder("a", None, run)
    with pytest.raises(UserError, match=r"a run without a bundle; einthoven evaluate run=.* makes one\.$"):
        find_bundle(run)
    (run / "tracking").mkdir()
    with pytest.raises(UserError, match=r"not ended, .* einthoven train resume=.*run continues it\.$"):
        find_bundle(run)
    shutil.copytree(SYNTHETIC_BUNDLE, run / "bundle")
    assert find_model(run, "a") == ModelFolder("a", run / "bundle", run)
    assert find_model(run / "bundle", "a") == ModelFolder("a", run / "bundle", None)
    assert find_bundle(run) == run / "bundle"


def test_the_bundles_of_the_package_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_bundle("ptbxl") == PTBXL_BUNDLE
    assert find_bundle("synthetic") == find_bundle("embedded") == SYNTHETIC_BUNDLE
    assert find_bundle(named_folder("embedded"), "init_from=embedded") == SYNTHETIC_BUNDLE
    # A folder of the user comes first.
    (tmp_path / "ptbxl").mkdir()
    with pytest.raises(UserError, match="ptbxl: neither a run nor a bundle"):
        find_bundle("ptbxl")
    with pytest.raises(UserError, match="neither a run nor a bundle"):
        find_bundle("elsewhere")


@pytest.mark.parametrize("name", ["nothing", "empty", "delineator", "file"])
def test_what_is_neither_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    shutil.copytree(PACKAGED, tmp_path / "delineator")
    expected = "is a delineator" if name == "delineator" else "neither a run nor a bundle; expected a folder with"
    with pytest.raises(UserError, match=f"^option=x: {expected}"):
        find_model(tmp_path / name, "option=x")


def test_the_pretext_tasks_are_known_by_their_modules() -> None:
    for module in pkgutil.iter_modules(tasks.__path__, f"{tasks.__name__}."):
        importlib.import_module(module.name)
    subclasses = {*Pretext.__subclasses__(), *TokenPretext.__subclasses__()} - {TokenPretext}
    assert sorted(task.__module__.rpartition(".")[2] for task in subclasses) == sorted(PRETEXT_TASKS)
