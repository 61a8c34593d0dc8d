"""Every notebook runs from beginning to end as a script, and what it says is so."""

from __future__ import annotations

import hashlib
import re
import runpy
from itertools import pairwise
from pathlib import Path
from typing import Any

import jupytext
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_notebook_of_prose_and_code(path: Path) -> None:
    notebook = jupytext.read(path)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert notebook.metadata.kernelspec.name == "python3"  # executing asks for it
    assert kinds[0] == "markdown" and notebook.cells[0].source.startswith("# ")
    assert kinds.count("code") > 5 and kinds.count("markdown") >= kinds.count("code") / 2
    assert all(cell.source.strip() for cell in notebook.cells)


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a notebook as a script in a folder of its own; return what it defined."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.syspath_prepend(str(FOLDER))
    for variable in ("EINTHOVEN_ECG", "EINTHOVEN_RUN"):
        monkeypatch.delenv(variable, raising=False)
    shown = runpy.run_path(str(FOLDER / name))
    assert not list(folder.iterdir()), "nothing is left behind"
    return shown


def assert_exact(shown: dict[str, Any], **limits: float) -> None:
    """Check that the two ways in which a notebook computes a number agree."""
    for name, limit in limits.items():
        assert shown[f"{name}_error"] < limit, f"{name}: {shown[f'{name}_error']}"


def test_linear_algebra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("01_linear_algebra.py", tmp_path, monkeypatch)

    assert_exact(shown, dot=1e-9, sliding=1e-9, matrix=1e-9, limb=1e-12, norm=1e-12, transpose=1e-12)
    assert_exact(shown, identity=1e-9, sklearn=1e-9, dropped=1e-9, attention=1e-4)
    assert shown["law_error_mv"] < 3e-3  # rounding to whole µV
    assert shown["l2_change"] < 1e-12 < 0.01 < shown["l1_change"]
    assert shown["rank"] == 8


def test_calculus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("02_calculus.py", tmp_path, monkeypatch)

    assert_exact(shown, slope=1e-3, integral=1e-9, formula=1e-12, nudge=1e-8, chain=1e-12, moved=1e-8)
    assert_exact(shown, norm=1e-6, hessian=1e-12, sharpness=1e-6)
    descent = shown["descent"]
    assert all(after < before for before, after in pairwise(descent))
    assert shown["largest"]["sigmoid"] == pytest.approx(0.25)
    first_over_last = {name: profile[0] / profile[-1] for name, profile in shown["profiles"].items()}
    assert first_over_last["sigmoid"] < 1e-6 < 0.05 < first_over_last["ReLU, skip"]
    by_line, by_parabola = shown["taylor_errors"]
    assert by_parabola < by_line / 3


def test_probability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("03_probability.py", tmp_path, monkeypatch)

    assert_exact(shown, norm=1e-9, bayes=1e-9, sklearn=1e-6, ppv=1e-12, gaussian=1e-9, bernoulli=1e-9)
    assert_exact(shown, categorical=1e-9, prior=1e-8, lasso=1e-9, ridge=1e-6, posterior=1e-9, root=0.1)
    np.testing.assert_allclose(shown["by_loss"], shown["by_likelihood"], atol=1e-4)
    assert abs(shown["best_rate"] - float(shown["rate"].mean())) <= 0.25  # the grid of guesses
    too_small, right, too_large = (values[-1] / values[0] for values in shown["variances"].values())
    assert too_small < 1e-3 < 0.2 < right < 5 < 1e3 < too_large
    assert shown["ppv"][0.02] < shown["ppv"][shown["share"]] - 0.2

    assert shown["zeros"] > 15 and (shown["closed"] != 0).all()
    for name, changes in shown["changes"].items():
        assert max(changes) > 0.01, name  # mV: it can be seen


def test_optimization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("04_optimization.py", tmp_path, monkeypatch)

    assert_exact(shown, convex=1e-3, lam=1e-6, factor=1e-2, momentum=1e-9, adam=1e-6, cosine=1e-12, auroc=1e-9)
    assert shown["same_function"] < 1e-5
    assert shown["hill"]["after"] < shown["hill"]["before"] / 2
    sizes = {name: abs(values[-1] / values[0]) for name, values in shown["distances"].items()}
    assert sizes["1/λ"] < sizes["0.2/λ"] < 1 and sizes["1.9/λ"] < 1 < sizes["2.1/λ"]
    assert shown["half"]["all records"] < shown["half"]["32 records"] < shown["half"]["1 record"]
    assert shown["ends"]["cosine"][-1] < 0.6 * shown["ends"]["constant"][-1]
    assert np.mean(shown["losses"][-5:]) < np.mean(shown["losses"][:5]) - 0.1


def test_information(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("05_information.py", tmp_path, monkeypatch)

    assert_exact(shown, entropy=1e-9, bits=1e-9, parts=1e-9, scipy=1e-9, training=1e-5, gaussian=1e-9)
    assert_exact(shown, distillation=1e-12, gain=1e-9, threshold=1e-6)
    assert shown["class_bits"] <= shown["mean_questions"] < shown["class_bits"] + 1
    for sizes in (shown["bits"], shown["zlib_bits"]):
        assert sizes["differences"] < sizes["values"]
    assert shown["counted"]["the shares"] == min(shown["counted"].values())
    wide, narrow = shown["best"]["KL(p ‖ q)"], shown["best"]["KL(q ‖ p)"]
    assert wide[1] > 2 * narrow[1] and abs(wide[0] - shown["p_mean"]) < 0.05


def test_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("06_the_map.py", tmp_path, monkeypatch)

    assert_exact(shown, rate=1e-6, loss=1e-5, auroc=1e-3)
    missing = {place for *_, place in shown["MAP"]} - set(shown["found"])
    assert missing <= {"train/penalty", "watch/diag/sharpness"}  # not measured in a run with the default options


def test_your_own_ecg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("07_your_own_ecg.py", tmp_path, monkeypatch)

    codes = {name: {finding.code for finding in found} for name, found in shown["findings"].items()}
    assert "swap_la_ra" in codes["arm electrodes exchanged"] - codes["as it is"]
    assert "unit" in codes["µV called mV"] - codes["as it is"]
    assert shown["refused"].keys() == {"arm electrodes exchanged", "µV called mV"}
    assert shown["refusal"] is None and shown["interval"].shape == (len(shown["p"]), 2)
    assert shown["by_hand"] == pytest.approx(shown["measurements"].values["qtc_fridericia"].value, abs=5)
    assert shown["total"] == pytest.approx(shown["difference"], abs=0.05 * abs(shown["difference"]) + 0.05)
    assert_exact(shown, auroc=1e-9)
    assert shown["tuned"][-1][1] > shown["scratch"][-1][1] > 0.5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_page_is_that_of_this_notebook(path: Path) -> None:
    """`make notebooks` writes the pages. It is too slow for a test, so the page has a hash of its source."""
    digest = hashlib.sha256()
    for file in (path, FOLDER / "ecgs.py"):
        digest.update(file.read_bytes())
    page = (PAGES / f"{path.stem}.md").read_text()
    assert digest.hexdigest()[:16] in page.splitlines()[0], f"make notebooks ARGS={path.stem} writes the page again"
    pictures = re.findall(rf"\]\(({path.stem}/\d+\.png)\)", page)
    assert sorted(pictures) == sorted(f"{path.stem}/{file.name}" for file in (PAGES / path.stem).iterdir())
    assert all((PAGES / picture).stat().st_size < 100_000 for picture in pictures)
    for link in re.findall(r"\]\(([\w./]+\.md)(?:#[\w-]+)?\)", page):
        assert (PAGES / link).resolve().exists(), link
