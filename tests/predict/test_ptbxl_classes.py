"""`bench/ptbxl_classes.py`: which classes the bundle of real ECGs answers, and that they are outputs of the network."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.readout import Readout
from einthoven.predict.bundle import Bundle, read_bundle
from einthoven.predict.forward import predict_windows
from einthoven.predict.groups import answer_first_group, answer_groups
from einthoven.predict.network import build

sys.path.append(str(Path(__file__).parents[2] / "bench"))
import ptbxl_classes

STATEMENTS = ("AFIB", "CLBBB", "IMI", "LVH", "NDT", "NORM", "RARE")
MEMBERS = (("CLBBB",), ("LVH",), ("IMI",), ("NORM",), ("NDT", "RARE"))
SUPERCLASSES = ("CD", "HYP", "MI", "NORM", "STTC")
TABLE = """,description,rhythm
AFIB,atrial fibrillation,1.0
CLBBB,complete left bundle branch block,
IMI,inferior myocardial infarction,
LVH,left ventricular hypertrophy,
NDT,non-diagnostic T abnormalities,
NORM,normal ECG,
RARE,something rare,
"""


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """The bundle of a network that has learned seven statements, and answers five classes."""
    options = {"in_channels": 8, "num_classes": 7, "channels": [8, 8], "heads": 2, "window": 1.0, "fs": 100.0}
    network = {"class": "einthoven.models.conv_attention.ConvAttention", "options": options}
    readout = Readout(STATEMENTS, MEMBERS)
    frontend = Frontend(12, 8)
    return make_bundle(
        network=network,
        model=Classifier(frontend, build(network), readout).eval(),
        parts={
            "frontend": {
                "class": "einthoven.models.frontend.Frontend",
                "options": {"in_channels": 12, "out_channels": 8},
            },
            "network": network,
            "readout": readout.options(),
        },
        classes=SUPERCLASSES,
        band=None,
        points={},
    )


def test_superclasses_come_first_and_each_statement_is_an_output_of_the_network(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "scp_statements.csv").write_text(TABLE)
    groups = ptbxl_classes.candidate_groups(bundle, tmp_path)
    assert list(groups) == ["superclasses", "rhythms", "statements"]
    assert list(groups["superclasses"]) == list(SUPERCLASSES) and groups["rhythms"] == {"AFIB": "atrial fibrillation"}
    # NORM is a superclass already.
    assert list(groups["statements"]) == ["CLBBB", "IMI", "LVH", "NDT", "RARE"]
    wide = answer_groups(bundle, groups)
    wide.save(tmp_path / "bundle")
    back = read_bundle(tmp_path / "bundle")
    assert back.classes == (*SUPERCLASSES, "AFIB", "CLBBB", "IMI", "LVH", "NDT", "RARE")
    signal = np.rint(np.random.default_rng(0).normal(0, 300, (4, 12, 1000))).astype(np.int16)
    before, _ = predict_windows(bundle, signal)
    after, _ = predict_windows(back, signal)
    np.testing.assert_allclose(after[:, :5], before, atol=1e-6)
    p = dict(zip(back.classes, after.T, strict=True))
    np.testing.assert_allclose(p["CD"], p["CLBBB"], atol=1e-6)
    main = answer_first_group(back)
    assert main.classes == SUPERCLASSES
    np.testing.assert_allclose(predict_windows(main, signal)[0], before, atol=1e-6)
    np.testing.assert_allclose(p["STTC"], 1 - (1 - p["NDT"]) * (1 - p["RARE"]), atol=1e-6)


def test_a_statement_with_few_patients_or_that_is_hardly_told_is_not_answered() -> None:
    rng = np.random.default_rng(0)
    n = 600
    y = (rng.uniform(size=(n, 4)) < [0.4, 0.2, 0.2, 0.03]).astype(float)
    noise = rng.normal(size=y.shape)
    noise[:, 2] *= 20
    p = 1 / (1 + np.exp(-(3 * y - 2 + noise)))
    # Two records of each patient, so that the rare statement has more than 15 records and fewer than 25 patients.
    empty = np.zeros((n, 4))
    out_of_fold = ptbxl_classes.OutOfFold(y, p, empty, np.zeros(n), np.zeros(n, int), np.arange(n) // 2, [])
    candidates = {"superclasses": {"NORM": "normal"}, "statements": {"GOOD": "a", "BAD": "b", "RARE": "c"}}
    groups, left_out = ptbxl_classes.choose_groups(candidates, out_of_fold)
    assert groups == {"superclasses": {"NORM": "normal"}, "statements": {"GOOD": "a"}}
    assert [one.name for one in left_out] == ["BAD", "RARE"]
    assert left_out[0].low < 0.7 and np.isnan(left_out[1].auroc)
    assert left_out[1].patients == len(np.unique(np.flatnonzero(y[:, 3]) // 2)) < 25
    assert ptbxl_classes.columns_of(groups, candidates) == [0, 1]
    assert ptbxl_classes.slices_of(groups) == [slice(0, 1), slice(1, 2)]
    assert out_of_fold.select([1, 3]).y.shape == (n, 2)
