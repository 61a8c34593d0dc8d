"""`bench/make_ptbxl_bundle.py`: which networks are trained, from which start, and what the model card says about it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from einthoven.errors import UserError
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import make_ptbxl_bundle
import ptbxl_card

BASES = ("classes_1-2-3", "classes_4-5-6", "classes_7-8-9")


@pytest.fixture
def bases(tmp_path: Path) -> Path:
    """A folder with a bundle for each group of held-out folds."""
    for name in BASES:
        (tmp_path / name / "bundle").mkdir(parents=True)
        (tmp_path / name / "bundle" / "bundle.json").touch()
    return tmp_path


def starts_of(trainings: dict[str, list[str]]) -> dict[str, list[str]]:
    """The options for the start of each training."""
    return {
        part: [option for option in options if option.startswith("init_from")] for part, options in trainings.items()
    }


def test_each_network_starts_from_the_base_of_its_held_out_folds(bases: Path) -> None:
    trainings = make_ptbxl_bundle.trainings_of("groups", bases, ["task.targets=all"], [])
    networks = ("cv/fold-1", "cv/fold-4", "cv/fold-7")
    starts = starts_of(trainings)
    for name, base in zip(networks, BASES, strict=True):
        assert starts[name] == [f"init_from={bases}/{base}/bundle"]
    assert starts["final"] == ["init_from=synthetic"]
    train, val, test = trainings["cv/fold-4"][:3]
    assert train == "data.folds.train=[1, 2, 3, 7, 8, 9]"
    assert (val, test) == ("data.folds.val=[4, 5, 6]", "data.folds.test=[]")
    assert {"data.folds.val=[]", "task.targets=all"} <= set(trainings["final"])
    # Several processes share the work, and need no base of the others.
    (bases / "classes_7-8-9" / "bundle" / "bundle.json").unlink()
    assert list(make_ptbxl_bundle.trainings_of("groups", bases, [], [], "fold-1,final")) == ["cv/fold-1", "final"]
    with pytest.raises(UserError, match=r"classes_7-8-9/bundle: no bundle; bench/make_bases\.py"):
        make_ptbxl_bundle.trainings_of("groups", bases, [], [])
    # Without bases, all networks start alike. With init_from=auto, the final one would start from the usual base.
    for part, start in starts_of(make_ptbxl_bundle.trainings_of("folds", None, [], [])).items():
        assert start == ([] if part.startswith("boosting") else ["init_from=null"])


def test_gradient_boosting_is_fitted_to_the_same_folds_with_options_of_its_own() -> None:
    options = ["task.targets=all", "data.cache=c"]
    trainings = make_ptbxl_bundle.trainings_of("folds", None, options, ["model.rounds=9"])
    assert len(trainings) == 20
    for name in ("fold-3", "final"):
        network = trainings["final" if name == "final" else f"cv/{name}"]
        boosting = trainings[f"boosting/{name}"]
        assert boosting[:3] == network[:3]
        assert boosting[3:] == ["data.cache=c", "model=gradient_boosting", "model.rounds=9"]
    only = make_ptbxl_bundle.trainings_of("groups", None, options, [], "boosting")
    assert list(only) == ["boosting/fold-1", "boosting/fold-4", "boosting/fold-7", "boosting/final"]


def test_an_option_for_the_start_is_refused_with_bases(monkeypatch: pytest.MonkeyPatch, bases: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["make", "ptbxl", "--bases", str(bases), "init_from=synthetic"])
    with pytest.raises(SystemExit):
        make_ptbxl_bundle.main()


@dataclass
class Fold:
    """What the card reads of a fold."""

    in_generator: NDArray[np.bool_]


@pytest.mark.parametrize(
    ("known", "sentence"),
    [
        (0, "another generator, which was fitted without the records that are held out"),
        (3, "3 of the records that are"),
    ],
)
def test_the_card_says_whether_a_generator_knew_the_held_out_records(known: int, sentence: str) -> None:
    bundle: Any = SimpleNamespace(provenance={"config": {"init_from": "synthetic"}})
    folds: Any = [Fold(np.arange(5) < known), Fold(np.zeros(4, bool))]
    start = ptbxl_card.start_of(bundle, folds)
    assert sentence in start and not start.endswith(".")


def test_the_weights_of_a_missing_lead_are_those_of_a_linear_regression() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5000, 8)) @ rng.normal(size=(8, 8))
    found = make_ptbxl_bundle.fit_weights(x.T @ x / len(x), INDEPENDENT_LEADS, "V3")
    row = INDEPENDENT_LEADS.index("V3")
    expected = LinearRegression(fit_intercept=False).fit(np.delete(x, row, axis=1), x[:, row]).coef_
    assert list(found) == [lead for lead in INDEPENDENT_LEADS if lead != "V3"]
    assert list(found.values()) == pytest.approx(expected.tolist(), rel=1e-6)
