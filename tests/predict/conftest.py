from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from einthoven.evaluation.band import calibration_covariance
from einthoven.evaluation.calibration import Temperature
from einthoven.evaluation.familiarity import Familiarity
from einthoven.models.frontend import Classifier, Frontend
from einthoven.predict.bundle import Bundle
from einthoven.predict.forward import compute_features
from einthoven.predict.network import build
from einthoven.predict.signal import InputFormat

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
CLASSES = ("CD", "MI", "NORM")
SMALL = {
    "class": "einthoven.models.conv_attention.ConvAttention",
    "options": {"in_channels": 8, "num_classes": 3, "channels": [8, 8], "heads": 2, "window": 1.0, "fs": 100.0},
}

MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def make_bundle() -> MakeBundle:
    """A maker of bundles of small networks with weights of a seed, calibrated on made-up records."""
    return _make_bundle


def _make_bundle(seed: int = 0, network: dict[str, Any] = SMALL, **changes: Any) -> Bundle:
    torch.manual_seed(seed)
    leads = changes["input_format"].leads if "input_format" in changes else LEADS
    frontend = Frontend(len(leads), 8)
    frontend.std.fill_(0.5)
    model = Classifier(frontend, build(network)).eval()
    for name, value in model.named_buffers():  # as after some training: norms that do something
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.05, 0.95, (400, 3))
    y = (rng.uniform(size=p.shape) < 1 / (1 + np.exp(-2 * np.log(p / (1 - p))))).astype(float)
    calibration = Temperature(CLASSES, False).fit(y, p)
    parts = {
        "frontend": {
            "class": "einthoven.models.frontend.Frontend",
            "options": {"in_channels": len(leads), "out_channels": 8},
        },
        "network": network,
    }
    whole: dict[str, Any] = {
        "model": model,
        "parts": parts,
        "input_format": InputFormat(LEADS, 100.0, 10.0, False, 1000, 500, "mean"),
        "classes": CLASSES,
        "single_label": False,
        "temperature": 1.0,
        "calibration": calibration,
        "calibration_method": "temperature",
        "provenance": {"trained_on": "nothing: random weights"},
        "band": calibration_covariance(y, calibration.transform(p)),
        "conformal": {0.1: 0.2, 0.2: 0.4},
        "points": {"MI": {"youden": {"threshold": 0.5, "sensitivity": 0.8, "specificity": None}}},
    }
    return Bundle(**{**whole, **changes})


@pytest.fixture(scope="session")
def with_familiarity() -> Callable[[Bundle], Bundle]:
    """Adds what is familiar: noise of 0.3 mV."""

    def add(bundle: Bundle) -> Bundle:
        rng = np.random.default_rng(1)
        signal = np.rint(rng.normal(0, 300, (120, 12, 1000))).astype(np.int16)
        features = compute_features(bundle, signal)
        return replace(bundle, familiarity=Familiarity.fit(features[:60], features[60:]))

    return add


@pytest.fixture(scope="session")
def saved(
    make_bundle: MakeBundle,
    with_familiarity: Callable[[Bundle], Bundle],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a bundle."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    with_familiarity(make_bundle()).save(folder)
    return folder
