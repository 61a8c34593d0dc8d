"""Every notebook runs from beginning to end as a script, and what it shows is so."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import jupytext
import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))


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
    GlobalHydra.instance().clear()
    return runpy.run_path(str(FOLDER / name))


def test_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("01_one_batch.py", tmp_path, monkeypatch)

    assert shown["train"].samples == 1000 and shown["batch"].x.shape[:2] == (32, 12)
    assert shown["law_error_mv"] < 1e-6
    assert shown["rank"] == 8
    assert shown["identity_error"] < 1e-12
    assert np.abs(shown["back"] - shown["record"].signal).max() < 5e-3  # mV: the rounding
    assert shown["sliding_error"] < 1e-4 and shown["convolution_error"] < 1e-4
    assert shown["attention_error"] < 1e-4

    assert ((shown["soft"] > 0) & (shown["soft"] < 1)).any()
    assert shown["information_error"] < 1e-9
    assert shown["chain_error"] < 1e-9
    assert shown["gradient_error"] < 1e-3
    assert shown["promised"] < 0 and shown["after"] < shown["before"]

    history, finished = shown["history"], shown["finished"]
    steps, losses = history["train/loss"]
    assert steps == list(range(1, finished.step + 1)) and len(steps) >= 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    for name in (
        "watch/optim/lr",
        "watch/grad/norm",
        "watch/grad/vanishing",
        "watch/diag/entropy",
        "watch/diag/kl_prior",
        "val/macro_auroc",
    ):
        assert np.isfinite(history[name][1]).all(), name
    assert not list(tmp_path.iterdir())  # nothing is left behind


def test_likelihoods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("02_likelihoods.py", tmp_path, monkeypatch)

    for name in ("gaussian", "bernoulli", "categorical", "kl", "soft", "prior", "lasso"):
        assert shown[f"{name}_error"] < 1e-9, name
    assert shown["least_squares_error"] < 1e-6 and shown["ridge_error"] < 1e-6
    np.testing.assert_allclose(shown["by_loss"], shown["by_likelihood"], atol=1e-4)
    assert abs(shown["best_rate"] - float(shown["rate"].mean())) <= 0.25  # the grid of guesses
    assert shown["residual"].std() < 0.7 * shown["sigma"]

    assert shown["counted"]["the shares"] == min(shown["counted"].values())
    pi, answers = shown["pi"], shown["answers"]
    np.testing.assert_allclose(answers["cross-entropy"], pi, atol=2e-3)
    assert shown["smoothed_error"] < 2e-3
    rare = pi < 0.4
    assert (answers["focal, γ = 2"][rare] > pi[rare] + 0.02).all()  # towards the middle
    assert (answers["asymmetric"][rare] > answers["focal, γ = 2"][rare]).all()
    assert shown["zeros"] > 15 and (shown["closed"] != 0).all()
    assert not list(tmp_path.iterdir())
