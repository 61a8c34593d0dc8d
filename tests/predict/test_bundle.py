"""The folder: written and read whole, noticed when damaged, and harmless whoever wrote it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from einthoven import trust
from einthoven.errors import UserError
from einthoven.evaluation.calibration import METHODS, Isotonic, PriorShift, Uncalibrated, Vector, learned, restored
from einthoven.predict import find_bundle, load_bundle
from einthoven.predict.bundle import DESCRIPTION, WEIGHTS, load
from einthoven.predict.predictor import forward


def signal(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(0, 300, (n, 12, 1000))).astype(np.int16)


def test_what_is_read_is_what_was_written(saved: Path, make_bundle: Any, with_familiarity: Any) -> None:
    written, read = with_familiarity(make_bundle()), load(saved)
    for ours, theirs in zip(forward(written, signal()), forward(read, signal()), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5)
    assert forward(read, signal())[0].tolist() == forward(written, signal())[0].tolist()
    for name in ("reads", "classes", "single_label", "temperature", "method", "conformal", "points", "notice", "parts"):
        assert getattr(read, name) == getattr(written, name), name
    assert read.band == pytest.approx(written.band)
    assert learned(read.calibration) == learned(written.calibration)
    assert len(read.sha256) == 64 and "Not for diagnosis" in read.notice


def test_it_loads_without_pickle_hydra_mlflow_or_other_heavy_packages(saved: Path) -> None:
    heavy = ["mlflow", "hydra", "omegaconf", "pandas", "sklearn", "matplotlib", "scipy.stats", "scipy.signal", "rich"]
    code = (
        "import sys, torch; before = set(sys.modules); from einthoven.predict import load_bundle; "
        f"load_bundle({str(saved)!r}); print([n for n in {heavy} if n in set(sys.modules) - before])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert {file.suffix for file in saved.iterdir()} == {".json", ".safetensors"}
    safetensors.torch.load_file(saved / WEIGHTS)  # refuses what is no tensor


def test_loading_draws_no_random_numbers(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_bundle(saved)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("kind", ["weights", "description", "cut", "no weights", "format", "not json"])
def test_a_damaged_bundle_is_refused_in_one_sentence(saved: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "b"
    shutil.copytree(saved, folder)
    weights, text = (folder / WEIGHTS).read_bytes(), (folder / DESCRIPTION).read_text()
    if kind == "weights":
        (folder / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    elif kind == "cut":
        (folder / WEIGHTS).write_bytes(weights[:-100])
    elif kind == "no weights":
        (folder / WEIGHTS).unlink()
    elif kind == "not json":
        (folder / DESCRIPTION).write_text("{")
    else:
        changed = ('"alpha": 0.1', '"alpha": 0.5') if kind == "description" else ('"format": 1', '"format": 99')
        assert changed[0] in text
        (folder / DESCRIPTION).write_text(text.replace(*changed))
    with pytest.raises(UserError) as refusal:
        load(folder)
    expected = {"no weights": "cannot be read", "format": "format 99", "not json": "damaged"}
    assert expected.get(kind, "damaged or changed") in str(refusal.value)
    assert str(folder) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "torch.hub.load",
        "torch.nn.functional.relu",
        "torch.nn.init.zeros_",
        "einthoven.models.features.save",
        "einthoven.models.features.FeatureTable",
        "einthoven.models.trees.RandomForest",
        "einthoven.models.conv_attention.math",
        "einthoven.models.conv_attention.nn.Module.__init__",
        "einthoven.models.conv_attention.UserError",
        "einthoven.models.nothing.Here",
        "einthoven.predict.network.build",
        "torch.nn..Linear",
        "Linear",
    ],
)
def test_a_bundle_names_networks_and_nothing_else(name: str) -> None:
    with pytest.raises(UserError, match=r"expected|cannot be found"):
        trust.accepted(name, "network")


@pytest.mark.parametrize(
    "name", ["einthoven.models.wang.fcn_wang", "einthoven.models.mlp.MLP", "torch.nn.modules.linear.Linear"]
)
def test_networks_are_found_by_name(name: str) -> None:
    assert callable(trust.accepted(name, "network"))


def rewritten(folder: Path, change: Any) -> Path:
    """A bundle whose description was changed by someone who knows the format."""
    from einthoven.predict.bundle import _digest

    found = json.loads((folder / DESCRIPTION).read_text())
    del found["sha256"]
    change(found)
    found["sha256"] = _digest(found, (folder / WEIGHTS).read_bytes())
    (folder / DESCRIPTION).write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda d: d["model"]["network"].update({"class": "os.system", "options": {"command": "true"}}),
            "expected a network",
        ),
        (lambda d: d["model"]["network"]["options"].update(channels=[8, 16]), "weights are not those"),
        (lambda d: d["model"]["network"]["options"].update(colour=1), "do not fit"),
        (lambda d: d["calibration"].update(method="magic"), "calibration magic"),
        (lambda d: d["calibration"].update(learned={}), "learns"),
        (lambda d: d["reads"].update(colour=1), "damaged"),
        (lambda d: d.pop("classes"), "damaged"),
    ],
)
def test_a_bundle_of_other_content_is_refused(saved: Path, tmp_path: Path, change: Any, expected: str) -> None:
    shutil.copytree(saved, tmp_path / "b")
    with pytest.raises(UserError, match=expected):
        load(rewritten(tmp_path / "b", change))


def test_saving_replaces_the_folder_as_a_whole(make_bundle: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for seed in (0, 1):
        make_bundle(seed).save(folder)
        (folder / f"left-{seed}").write_text("")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle"]
    assert not (folder / "left-0").exists()
    expected = forward(make_bundle(1), signal())[0]
    assert forward(load(folder), signal())[0].tolist() == expected.tolist()


def test_half_precision_weights_are_read_as_single(saved: Path, make_bundle: Any, tmp_path: Path) -> None:
    bundle = make_bundle()
    for p in bundle.model.parameters():
        p.data = p.data.half().float()  # what is kept of them
    expected = forward(bundle, signal())[0]
    bundle.save(tmp_path / "b", half=True)
    assert (tmp_path / "b" / WEIGHTS).stat().st_size < 0.7 * (saved / WEIGHTS).stat().st_size
    assert forward(load(tmp_path / "b"), signal())[0].tolist() == expected.tolist()


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_calibration_comes_back_as_it_was(method: str, single_label: bool) -> None:
    rng, classes = np.random.default_rng(0), ("A", "B", "C")
    p = rng.dirichlet(np.ones(3), 60)
    y = np.eye(3)[[rng.choice(3, p=row) for row in p]]
    kind: Any = METHODS[method][0]
    extra = {"prevalence": {"A": 0.5, "B": 0.3, "C": 0.2}} if kind is PriorShift else {}
    fitted = kind(classes, single_label, **extra).fit(y, p)
    state = json.loads(json.dumps(learned(fitted)))
    back = restored(method, classes, single_label, state)
    assert back.transform(p).tolist() == fitted.transform(p).tolist()
    assert learned(back) == state
    assert {Uncalibrated, Vector, Isotonic} <= {kind for kind, _ in METHODS.values()}


def test_where_there_is_no_bundle_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no bundle there; expected a folder with bundle.json"):
        find_bundle(tmp_path / "nowhere")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="einthoven evaluate run="):
        find_bundle(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "fitted.skops").write_text("")
    with pytest.raises(UserError, match="fitted to features"):
        find_bundle(tmp_path / "run")
    with pytest.raises(UserError, match=r"no mlflow.db in this folder"):
        subprocess_free_find("runs:/abc", tmp_path)


def subprocess_free_find(address: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        find_bundle(address)
