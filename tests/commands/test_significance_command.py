"""`einthoven report --significance` on runs in a store: which models are compared, and with which tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from scipy import stats
from sklearn.metrics import roc_auc_score

from einthoven import cli
from einthoven.evaluation.comparison import difference_of_means, paired_difference
from einthoven.runs.comparison.paired import LoggedPredictions
from einthoven.runs.comparison.significance import Model, Training, compare_trainings
from pages import assert_self_contained

N = 240
RNG = np.random.default_rng(0)
Y = (RNG.uniform(size=(N, 2)) < 0.4).astype(float)
PATIENTS = np.arange(N) // 2
FOLDS = PATIENTS % 4 + 1


@pytest.fixture(scope="module")
def store(workplace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace}/mlflow.db")


def scores(noise: float, seed: int) -> np.ndarray[Any, Any]:
    return 1 / (1 + np.exp(-Y + np.random.default_rng(seed).normal(0, noise, Y.shape)))


def put(
    store: MlflowClient,
    folder: Path,
    name: str,
    p: np.ndarray[Any, Any],
    *,
    overrides: str,
    task: str = "rhythm",
    seed: int = 0,
    split: str = "val",
    folds: np.ndarray[Any, Any] | None = FOLDS,
    records: int = N,
) -> str:
    """Log a run with predictions and nothing else."""
    found = store.get_experiment_by_name("significance")
    experiment = store.create_experiment("significance") if found is None else found.experiment_id
    tags = {"task": task, "einthoven.overrides": f"{overrides} seed={seed}", "data.records.train": "720"}
    run_id = str(store.create_run(experiment, run_name=name, tags=tags).info.run_id)
    store.log_param(run_id, "seed", str(seed))
    columns: dict[str, Any] = {"ecg_id": np.arange(N), "record_id": np.arange(N), "patient": PATIENTS}
    if folds is not None:
        columns["fold"] = folds
    for k, label in enumerate(("AF", "SR")):
        columns |= {f"{label}_label": Y[:, k].astype(int), f"{label}_probability": p[:, k]}
    file = folder / f"{split}.parquet"
    pq.write_table(pa.table({column: values[:records] for column, values in columns.items()}), file)
    store.log_artifact(run_id, str(file), "predictions")
    store.set_terminated(run_id)
    return run_id


def report(workplace: Path, *names: str) -> str:
    page = workplace / "significance.html"
    cli.main(["report", *names, "--significance", f"output={page}", f"uri=sqlite:///{workplace}/mlflow.db"])
    return page.read_text()


def macro(p: np.ndarray[Any, Any], chosen: np.ndarray[Any, Any]) -> float:
    return float(np.mean([roc_auc_score(Y[chosen, k], p[chosen, k]) for k in range(2)]))


def test_models_of_two_tasks_are_tested_over_patients_and_folds(
    workplace: Path, store: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = {"model=a": 1.6, "model=b": 1.0, "model=c": 1.62}
    p = {}
    names = []
    for number, (model, amount) in enumerate(noise.items()):
        for seed in (0, 1):
            p[model, seed] = scores(amount, 10 * number + seed)
            name = f"{model}-{seed}"
            names.append(put(store, tmp_path, name, p[model, seed], overrides=f"{model} folds=cv", seed=seed))
    for model in ("model=a", "model=b"):
        options = f"{model} task=superdiagnostic folds=cv"
        names.append(put(store, tmp_path, "other task", p[model, 0], overrides=options, task="superdiagnostic"))
    page = report(workplace, *names)
    text = "".join(assert_self_contained(page).text)

    # The corrected t-test over the folds, of the mean over the seeds.
    differences = []
    for fold in range(1, 5):
        is_held_out = fold == FOLDS
        a, b = (np.mean([macro(p[model, seed], is_held_out) for seed in (0, 1)]) for model in ("model=a", "model=b"))
        differences.append(b - a)
    error = np.sqrt((1 / 4 + 1 / 3) * np.var(differences, ddof=1))
    low, high = np.mean(differences) + stats.t(3).ppf([0.025, 0.975]) * error
    p_over_folds = 2 * stats.t(3).sf(np.mean(differences) / error)
    assert f"{low:+.4f} to {high:+.4f}" in text

    # The bootstrap over the patients, of one seed in the other task.
    single = paired_difference(Y, p["model=a", 0], p["model=b", 0], groups=PATIENTS)
    assert f"{single.difference:+.4f}" in text and f"{single.interval.low:+.4f} to {single.interval.high:+.4f}" in text

    # Three comparisons are corrected together.
    printed = capsys.readouterr().out
    assert "rhythm: macro AUROC minus that of model=a" in printed
    rows = [line.split("│") for line in printed.splitlines() if line.startswith("│ model=")]
    assert [row[1].strip() for row in rows] == ["model=b", "model=c", "model=b"]
    of_a, of_b = ([p[model, seed] for seed in (0, 1)] for model in ("model=a", "model=b"))
    p_over_patients = difference_of_means(Y, of_a, of_b, groups=PATIENTS).p
    raw, adjusted = (np.array([float(row[place]) for row in rows]) for place in (4, 5))
    assert raw[0] == pytest.approx(max(p_over_folds, p_over_patients), abs=6e-4)
    np.testing.assert_allclose(adjusted, stats.false_discovery_control(raw), atol=2e-3)
    # The narrow table of a test wraps the words.
    assert rows[0][6].strip() == "better" and rows[1][6].strip().startswith("no")
    assert "no difference established" in text and "Nadeau and Bengio" in text


def test_seeds_of_one_split_are_tested_and_what_cannot_be_is_named(
    workplace: Path, store: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    p = {}
    for number, model in enumerate(("model=x", "model=y")):
        for seed in (0, 1, 2):
            p[number, seed] = scores(1.2 - 0.3 * number, 100 + 10 * number + seed)
            options = {"overrides": f"{model} tracking.run_name=any{number}", "seed": seed, "folds": None}
            names.append(put(store, tmp_path, f"{model}-{seed}", p[number, seed], split="test", **options))
    options = {"overrides": "model=z", "folds": None, "split": "test"}
    names.append(put(store, tmp_path, "one seed", scores(1.2, 5), **options))
    names.append(put(store, tmp_path, "fewer records", scores(1.2, 6), records=200, **options))
    names.append(put(store, tmp_path, "again", scores(1.2, 5), **options))
    names.append(put(store, tmp_path, "diverged", np.full_like(Y, np.nan), **options))
    text = "".join(assert_self_contained(report(workplace, *names)).text)

    everything = np.ones(N, bool)
    differences = [macro(p[1, seed], everything) - macro(p[0, seed], everything) for seed in (0, 1, 2)]
    half = stats.t(2).ppf(0.975) * np.sqrt((1 / 3 + N / 720) * np.var(differences, ddof=1))
    assert f"{np.mean(differences) - half:+.4f} to {np.mean(differences) + half:+.4f}" in text
    printed = " ".join(capsys.readouterr().out.split())
    assert "rhythm, model=z: no test over trainings, because they have fewer than two seeds in common." in printed
    assert "Not compared: fewer records: no other model of the task rhythm has the same records." in printed
    assert "Not compared: diverged: some of its predictions are not numbers." in printed
    assert "model=z: several runs have one seed; the last one that is named counts." in printed
    assert "tracking.run_name" not in printed

    with pytest.raises(SystemExit):
        report(workplace, names[0], names[1])
    assert "expected two models or more on the same records" in capsys.readouterr().err


def test_other_folds_are_not_tested_together() -> None:
    models = []
    for number in (2, 3):
        held = LoggedPredictions(np.arange(N), PATIENTS, ("AF", "SR"), Y, scores(1.0, 0), PATIENTS % number)
        models.append(Model(str(number), (Training("", "0", "", {}, 0, held),)))
    assert compare_trainings(*models) == "their folds differ"
    assert not isinstance(compare_trainings(models[0], models[0]), str)
