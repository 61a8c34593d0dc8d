"""One file for other runtimes gives the answers of the bundle."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch

from einthoven.errors import UserError
from einthoven.evaluation.calibration import PriorShift
from einthoven.evaluation.calibration_state import METHODS
from einthoven.predict.export import ONNX, _calibration_module, export, load_program
from einthoven.predict.forward import predict_windows
from einthoven.predict.signal import InputFormat

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

NETWORKS: dict[str, dict[str, Any]] = {
    "conv_attention.ConvAttention": {"channels": [8, 8], "heads": 2, "window": 0.5},
    "xresnet1d.XResNet1d": {"bottleneck": False, "blocks": [1, 1], "width": 8},
    "inception1d.Inception1d": {"depth": 3, "filters": 4, "bottleneck": 4},
    "wang.fcn_wang": {"channels": [8, 8, 8]},
    "wang.resnet1d_wang": {"width": 8},
    "logistic.Logistic": {"samples": 100},
    "mlp.MLP": {"width": 8, "depth": 1, "samples": 100},
    "lstm.LSTM": {"hidden": 8, "layers": 1, "bidirectional": True},
    "s4d.S4D": {"width": 8, "depth": 1},
    "vit1d.ViT1d": {"dim": 16, "depth": 1, "heads": 2, "samples": 100},
}


def described(name: str) -> dict[str, Any]:
    options = {"in_channels": 8, "num_classes": 3, **NETWORKS[name]}
    return {"class": f"einthoven.models.{name}", "options": options}


def signal(n: int) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.rint(rng.normal(0, 1, (n, 12, 1000)) * rng.uniform(30, 3000, (n, 12, 1))).astype(np.int16)


def bundle_of(make_bundle: Any, name: str, method: str = "temperature", single_label: bool = False) -> Any:
    """A bundle that reads four windows of 1 s, calibrated on made-up records; an LSTM is traced step by step: .2 s."""
    input_format = InputFormat(LEADS, 100.0, 10.0, False, 20 if "LSTM" in name else 100, 300, "mean")
    rng, classes = np.random.default_rng(0), ("CD", "MI", "NORM")
    p = rng.dirichlet(np.ones(3), 80)
    y = np.eye(3)[[rng.choice(3, p=row) for row in p]]
    extra = {"prevalence": {"CD": 0.5, "MI": 0.3, "NORM": 0.2}} if METHODS[method][0] is PriorShift else {}
    kind: Any = METHODS[method][0]
    calibration = kind(classes, single_label, **extra).fit(y, p)
    return make_bundle(
        network=described(name),
        input_format=input_format,
        calibration=calibration,
        calibration_method=method,
        single_label=single_label,
    )


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none"}))
def test_every_calibration_can_be_a_module(make_bundle: Any, method: str, single_label: bool) -> None:
    bundle = bundle_of(make_bundle, "logistic.Logistic", method, single_label)
    p = np.random.default_rng(5).dirichlet(np.ones(3) / 2, 200)
    if method == "isotonic":  # the points of the curves themselves, and beyond them
        p[:20], p[20], p[21] = bundle.calibration.stated_[0][:20, None], 0.0, 1.0
    module = _calibration_module(bundle)
    assert module is not None
    found, expected = module(torch.from_numpy(p)).numpy(), bundle.calibration.transform(p)
    assert found == pytest.approx(expected, abs=1e-12) and np.ptp(expected, axis=0).min() > 0.1


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_a_pt2_file(make_bundle: Any, tmp_path: Path, name: str) -> None:
    bundle, file = bundle_of(make_bundle, name), tmp_path / "model.pt2"
    export(bundle, file)
    program = load_program(file)
    for n in (1, 5):
        x = signal(n)
        found = program(torch.from_numpy(x).float() * 1e-3).detach().numpy()
        assert found == pytest.approx(bundle.calibration.transform(predict_windows(bundle, x)[0]), abs=1e-4)
    with ZipFile(file) as archive:
        (notes,) = [archive.read(name) for name in archive.namelist() if name.endswith("einthoven.json")]
    assert json.loads(notes)["notice"] == bundle.notice
    assert [f.name for f in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.parametrize("name", sorted(n for n in NETWORKS if n.partition(".")[2] in ONNX))
def test_convolutional_networks_and_the_default_can_be_onnx(
    make_bundle: Any, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX takes einthoven[onnx], which is not installed.")
    pytest.importorskip("onnxscript", reason="ONNX takes einthoven[onnx], which is not installed.")
    method = "isotonic" if name == "wang.fcn_wang" else "temperature"
    bundle, file = bundle_of(make_bundle, name, method), tmp_path / "model.onnx"
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as remarks:
        warnings.simplefilter("always")
        export(bundle, file)
    assert not capfd.readouterr().err and not [remark for remark in remarks if "TreeSpec" in str(remark.message)]
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        x = signal(n)
        (found,) = session.run(["probabilities"], {"signal": x.astype(np.float32) * np.float32(1e-3)})
        assert found == pytest.approx(bundle.calibration.transform(predict_windows(bundle, x)[0]), abs=1e-4)
    assert session.get_modelmeta().custom_metadata_map["notice"] == bundle.notice


@pytest.mark.parametrize("name", sorted(n for n in NETWORKS if n.partition(".")[2] not in ONNX))
def test_other_networks_are_refused_as_onnx_by_name(make_bundle: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=name.partition(".")[2]):
        export(bundle_of(make_bundle, name), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_another_suffix_is_refused(make_bundle: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.zip: expected a file that ends in .pt2 or .onnx"):
        export(make_bundle(), tmp_path / "model.zip")
