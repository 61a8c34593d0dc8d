"""The folder: written and read whole, noticed when damaged, and harmless whoever wrote it."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from einthoven import trust
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Isotonic, PriorShift, Uncalibrated, Vector
from einthoven.evaluation.calibration_state import METHODS, fitted_state, restore_calibration
from einthoven.predict import load_bundle
from einthoven.predict.bundle import DESCRIPTION, read_bundle
from einthoven.predict.forward import predict_windows
from einthoven.predict.model_folder import _option_of_task, find_bundle
from einthoven.predict.sealed_folder import FORMAT, WEIGHTS, seal_description


def signal(n: int = 3, seed: int = 0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(0, 300, (n, 12, 1000))).astype(np.int16)


def test_what_is_read_is_what_was_written(saved: Path, make_bundle: Any, with_familiarity: Any) -> None:
    written, read = with_familiarity(make_bundle()), read_bundle(saved)
    for ours, theirs in zip(predict_windows(written, signal()), predict_windows(read, signal()), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-5)
    assert predict_windows(read, signal())[0].tolist() == predict_windows(written, signal())[0].tolist()
    for name in (
        "input_format",
        "classes",
        "single_label",
        "temperature",
        "calibration_method",
        "conformal",
        "points",
        "notice",
        "parts",
    ):
        assert getattr(read, name) == getattr(written, name), name
    assert read.band == pytest.approx(written.band)
    assert fitted_state(read.calibration) == fitted_state(written.calibration)
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
        changed = ('"alpha": 0.1', '"alpha": 0.5') if kind == "description" else (f'"format": {FORMAT}', '"format": 99')
        assert changed[0] in text
        (folder / DESCRIPTION).write_text(text.replace(*changed))
    with pytest.raises(UserError) as refusal:
        read_bundle(folder)
    expected = {"no weights": "cannot be read", "format": "format 99", "not json": "not the JSON that is expected"}
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
        trust.find_target(name, "network")


@pytest.mark.parametrize(
    "name", ["einthoven.models.wang.fcn_wang", "einthoven.models.mlp.MLP", "torch.nn.modules.linear.Linear"]
)
def test_networks_are_found_by_name(name: str) -> None:
    assert callable(trust.find_target(name, "network"))


def options(description: dict[str, Any]) -> dict[str, Any]:
    """The options of the network in a description."""
    found: dict[str, Any] = description["model"]["network"]["options"]
    return found


def nested(depth: int) -> list[Any]:
    """A list in a list, and so on."""
    return [nested(depth - 1)] if depth else []


def rewritten(folder: Path, change: Any) -> Path:
    """A bundle whose description was changed by someone who knows the format."""
    found = json.loads((folder / DESCRIPTION).read_text())
    change(found)
    (folder / DESCRIPTION).write_bytes(seal_description(found, (folder / WEIGHTS).read_bytes()))
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
        (lambda d: d["calibration"].update(learned={}), "found the fitted values"),
        (lambda d: d["reads"].update(colour=1), "expected the entries aggregate"),
        (lambda d: d.pop("classes"), "a bundle without classes"),
        (lambda d: options(d).update(channels=[10**9, 8]), "an option of 1e.09"),
        (lambda d: options(d).update(channels=[10**6, 10**6]), "more or larger tensors"),
        (lambda d: options(d).update(depth=1000), "more or larger tensors"),
        (lambda d: options(d).update(depth=10**6), "model.depth=1000000: expected a whole number"),
        (lambda d: options(d).update(channels=["8", "8"]), "cannot be built"),
        (lambda d: options(d).update(heads=0), "cannot be built"),
        (lambda d: options(d).update(stem_kernel=[7]), "cannot be built"),
        (lambda d: options(d).update(activation="os.system"), "activation=os.system: unknown"),
        (lambda d: d["model"]["frontend"]["options"].update(in_channels=2), "weights are not those"),
        (lambda d: d["model"]["frontend"].update({"class": "torch.nn.Bilinear"}), "do not fit"),
        (lambda d: d["model"].update(network=[]), "model.network is"),
        (lambda d: d["model"].update(readout={"statements": ["a"]}), "expected statements and members"),
        (lambda d: d["model"].update(readout={"statements": ["a"], "members": [["a"]]}), "expected a list of 3"),
        (lambda d: d["model"].update(readout={"statements": ["a"], "members": [["a"]] * 2 + [["b"]]}), "among the"),
        (lambda d: d["model"].update(readout={"statements": ["a"], "members": [["a"]] * 2 + [[]]}), "1 to 1,000 names"),
        (lambda d: d["model"].update(readout={"statements": ["a", "b"], "members": [["a"]] * 3}), "reads 0 features"),
        (lambda d: d["reads"].update(window=10**9), "reads.window is 1000000000; expected a whole number, 1 to 1,000"),
        (lambda d: d["reads"].update(window=0), "reads.window is 0"),
        (lambda d: d["reads"].update(window=True), "reads.window is True"),
        (lambda d: d["reads"].update(stride=0), "reads.stride is 0"),
        (lambda d: d["reads"].update(stride=-1), "reads.stride is -1"),
        (lambda d: d["reads"].update(stride="500"), "reads.stride is '500'"),
        (lambda d: d["reads"].update(fs=1e-300), "reads.window is 1000"),
        (lambda d: d["reads"].update(fs=1e300), "reads.fs is 1e.300"),
        (lambda d: d["reads"].update(fs=-100.0), "reads.fs is -100"),
        (lambda d: d["reads"].update(fs=10**400), "reads.fs is 1"),
        (lambda d: d["reads"].update(seconds=1e9), "reads.seconds is"),
        (lambda d: d["reads"].update(seconds=10_000, window=1, stride=1), "windows in a record at most"),
        (lambda d: d["reads"].update(seconds=10_000, window=999_000, stride=1), "values for one record"),
        (lambda d: d["reads"].update(leads=["I"] * 12), "names that differ"),
        (lambda d: d["reads"].update(leads=["X1"]), "reads.leads is 'X1'"),
        (lambda d: d["reads"].update(aggregate="median"), "mean or max"),
        (lambda d: d.update(classes=[f"c{i}" for i in range(100_000)]), "1 to 10,000 names"),
        (lambda d: d.update(classes=["a", "b"], band=None, operating_points={}), "reads 0 features"),
        (lambda d: d.update(classes=["a", "a", "b"]), "names that differ"),
        (lambda d: d.update(classes=["a", "b", "c\x1b[2J"]), "printable"),
        (lambda d: d.update(classes=["a", "b", "c\nd"]), "printable"),
        (lambda d: d.update(classes=["a", "b", 3]), "printable"),
        (lambda d: d["provenance"].update(trained_on="a\nb"), "printable"),
        (lambda d: d.update(output="tanh"), "softmax or sigmoid"),
        (lambda d: d.update(temperature=0), "temperature is 0"),
        (lambda d: d["calibration"].update(learned={"temperature": -1.0}), "a number above 0"),
        (lambda d: d["calibration"].update(learned={"temperature": [1.0, 2.0]}), "has the shape"),
        (lambda d: d.update(band=[[[1.0, 2.0]]]), "a list of 3"),
        (lambda d: d.update(band=[[["1", 2], [3, 4]]] * 3), "band is '1'"),
        (lambda d: d["conformal"][0].update(threshold=-0.5), "conformal.threshold is -0.5"),
        (lambda d: d["conformal"][0].update(alpha="0.1"), "conformal.alpha is '0.1'"),
        (lambda d: d["operating_points"]["MI"]["youden"].update(threshold=-3), "operating_points.threshold is -3"),
        (lambda d: d["operating_points"].update(XX={}), "the classes of the bundle"),
        (lambda d: d["familiarity"].update(held=[2.0, 1.0]), "ascending"),
        (lambda d: d.update(familiarity=None), "beside those of the network"),
        (lambda d: d.update(provenance=nested(500)), "nested more than 64 deep"),
        (lambda d: d.update(format=10**300), "a bundle of format 1"),
    ],
)
def test_a_bundle_of_other_content_is_refused(saved: Path, tmp_path: Path, change: Any, expected: str) -> None:
    shutil.copytree(saved, tmp_path / "b")
    folder = rewritten(tmp_path / "b", change)
    with pytest.raises(UserError, match=expected) as refusal:
        read_bundle(folder)
    told = str(refusal.value)
    assert told.startswith(str(folder)) and told.isprintable() and len(told) < 700
    assert torch.is_grad_enabled(), "a refused bundle leaves gradients off"


def replace_weights(folder: Path, change: Any) -> Path:
    """A bundle whose weights were changed by someone who knows the format."""
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    change(tensors)
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
    return rewritten(folder, lambda description: None)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t["model.network.stem.conv.weight"].view(-1)[7:8].fill_(np.nan), "stem.conv.weight has values that"),
        (lambda t: t["model.frontend.std"].fill_(np.inf), "frontend.std has values that are not finite"),
        (lambda t: t["model.frontend.std"].zero_(), "answers with values that are not finite"),
        (lambda t: t["familiarity.mean"].fill_(np.nan), "familiarity has values that are not finite"),
        (lambda t: t.pop("model.frontend.mean"), "frontend.mean is missing in the file"),
        (lambda t: t.update({"model.more": torch.ones(2)}), "more is \\(2,\\) in the file and missing"),
        (lambda t: t.update({"other": torch.ones(2)}), "the tensors .* beside those"),
        (lambda t: t.pop("familiarity.mean"), "beside those of the network"),
        (lambda t: t.update({"familiarity.mean": torch.ones(3)}), "familiarity of the shapes"),
        (lambda t: t.update({"model.frontend.std": torch.ones((), dtype=torch.int64)}), "torch.int64; expected"),
        (lambda t: t.update({"model.frontend.std": torch.ones(1)}), "frontend.std is"),
        (lambda t: t.clear(), "beside those of the network"),
    ],
)
def test_a_bundle_with_other_weights_is_refused(saved: Path, tmp_path: Path, change: Any, expected: str) -> None:
    shutil.copytree(saved, tmp_path / "b")
    folder = replace_weights(tmp_path / "b", change)
    with pytest.raises(UserError, match=expected) as refusal:
        read_bundle(folder)
    assert str(refusal.value).startswith(str(folder)) and str(refusal.value).isprintable()


def test_every_flipped_bit_of_a_bundle_is_noticed(saved: Path, tmp_path: Path) -> None:
    folder, generator = tmp_path / "b", np.random.default_rng(0)
    shutil.copytree(saved, folder)
    for name, step in ((DESCRIPTION, 19), (WEIGHTS, 211)):
        whole = (folder / name).read_bytes()
        for byte in range(0, len(whole), step):
            changed = bytearray(whole)
            changed[byte] ^= 1 << int(generator.integers(8))
            (folder / name).write_bytes(changed)
            with pytest.raises(UserError):
                read_bundle(folder)
        (folder / name).write_bytes(whole)
    read_bundle(folder)


def test_a_bundle_of_the_format_before_is_read(saved: Path, tmp_path: Path) -> None:
    shutil.copytree(saved, tmp_path / "b")
    description = json.loads((saved / DESCRIPTION).read_text())
    weights = (saved / WEIGHTS).read_bytes()
    old = {name: value for name, value in description.items() if "sha256" not in name} | {"format": 1}
    canonical = json.dumps(old, sort_keys=True, ensure_ascii=False).encode()
    old["sha256"] = hashlib.sha256(canonical + hashlib.sha256(weights).digest()).hexdigest()
    (tmp_path / "b" / DESCRIPTION).write_text(json.dumps(old, indent=1, ensure_ascii=False) + "\n")
    expected, _ = predict_windows(read_bundle(saved), signal())
    found, _ = predict_windows(read_bundle(tmp_path / "b"), signal())
    assert found.tolist() == expected.tolist()
    old["temperature"] = 2.0
    (tmp_path / "b" / DESCRIPTION).write_text(json.dumps(old))
    with pytest.raises(UserError, match="damaged or changed"):
        read_bundle(tmp_path / "b")


def test_saving_replaces_the_folder_as_a_whole(make_bundle: Any, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    for seed in (0, 1):
        make_bundle(seed).save(folder)
        (folder / f"left-{seed}").write_text("")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bundle"]
    assert not (folder / "left-0").exists()
    expected = predict_windows(make_bundle(1), signal())[0]
    assert predict_windows(read_bundle(folder), signal())[0].tolist() == expected.tolist()


def full_disk(path: Path, content: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_save_that_was_interrupted_between_its_renames_is_told_and_loses_no_bundle(
    make_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    make_bundle(0).save(folder)
    folder.rename(tmp_path / ".bundle.old")
    for path in (folder, tmp_path):
        with pytest.raises(
            UserError, match=r"the bundle before it is in .*\.bundle\.old\. Rename that folder to bundle"
        ):
            find_bundle(path)
    broken = replace(make_bundle(1), temperature=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        broken.save(folder)
    assert (tmp_path / ".bundle.old").exists()
    # The next save fails, too. Then the bundle before has its own name again.
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="bundle"):
            make_bundle(1).save(folder)
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
    make_bundle(1).save(folder)
    assert [file.name for file in tmp_path.iterdir()] == ["bundle"]
    assert find_bundle(tmp_path) == folder


def test_half_precision_weights_are_read_as_single(saved: Path, make_bundle: Any, tmp_path: Path) -> None:
    bundle = make_bundle()
    for p in bundle.model.parameters():
        p.data = p.data.half().float()  # what is kept of them
    expected = predict_windows(bundle, signal())[0]
    bundle.save(tmp_path / "b", half=True)
    assert (tmp_path / "b" / WEIGHTS).stat().st_size < 0.7 * (saved / WEIGHTS).stat().st_size
    assert predict_windows(read_bundle(tmp_path / "b"), signal())[0].tolist() == expected.tolist()


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_calibration_comes_back_as_it_was(method: str, single_label: bool) -> None:
    rng, classes = np.random.default_rng(0), ("A", "B", "C")
    p = rng.dirichlet(np.ones(3), 60)
    y = np.eye(3)[[rng.choice(3, p=row) for row in p]]
    kind: Any = METHODS[method][0]
    extra = {"prevalence": {"A": 0.5, "B": 0.3, "C": 0.2}} if kind is PriorShift else {}
    fitted = kind(classes, single_label, **extra).fit(y, p)
    state = json.loads(json.dumps(fitted_state(fitted)))
    back = restore_calibration(method, classes, single_label, state)
    assert back.transform(p).tolist() == fitted.transform(p).tolist()
    assert fitted_state(back) == state
    assert {Uncalibrated, Vector, Isotonic} <= {kind for kind, _ in METHODS.values()}


def test_where_there_is_no_bundle_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither a run nor a bundle; expected a folder"):
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


CONFIGURATIONS = {  # as runs write them
    "age": ("task:\n  _target_: einthoven.tasks.regression.Regression\n  target: age\ntrainer:\n  epochs: 1\n", "age"),
    "axis": ("seed: 0\ntrainer: {}\ntask:\n  target: axis\n", "axis"),
    "a column": ("task:\n  unit: ms\n  target: QT interval\nmodel: {}\ntrainer:\n", "QT interval"),
    "classes": ("task:\n  labels: all\nloss:\n  target: age\ntrainer:\n", None),
    "not text": ("\udcff", None),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_run_of_a_quantity_is_told_by_its_configuration_and_has_no_bundle(name: str, tmp_path: Path) -> None:
    text, quantity = CONFIGURATIONS[name]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(text, errors="surrogateescape")
    assert _option_of_task(tmp_path, "target") == quantity
    with pytest.raises(UserError) as refusal:
        find_bundle(tmp_path)
    if quantity is None:
        assert "einthoven evaluate run=" in str(refusal.value)
        return
    assert f"predicts {quantity}, which has no probabilities" in str(refusal.value)
    assert "a quantity has no bundle" in str(refusal.value)
    assert "evaluate" not in str(refusal.value)


def test_a_run_without_a_network_has_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("task:\n  labels: all\nmodel:\n  trees: 100\n")  # as 0.1 without artifacts
    with pytest.raises(UserError, match="its model is fitted to features, and a bundle holds a network"):
        find_bundle(tmp_path)
    assert _option_of_task(tmp_path / "nowhere", "target") is None
