"""`bench/bench_recipes.py`: predictions of held-out folds, and what is compared."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from composing import composed
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.errors import UserError
from einthoven.evaluation.comparison import paired_difference
from einthoven.evaluation.metrics import macro_auroc
from einthoven.predict import load_bundle
from einthoven.predict.model_folder import FOLD
from einthoven.runs.base.read_base import read_base
from einthoven.runs.network.finished import read_finished
from einthoven.runs.network.members import read_member

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import bench_recipes
import make_bases
import recipe_results
import recipe_table
from recipe_results import Held, Judged, Prediction, Records

TINY = ["model.channels=[4,8,8]", "model.heads=1", "trainer.epochs=2", "trainer.batch_size=4"]
CLASSES = ("CD", "HYP", "MI", "NORM", "STTC")


@pytest.fixture
def records() -> Records:
    """Two records of each patient. Each class has both labels."""
    rng = np.random.default_rng(0)
    y = (rng.random((60, 5)) < 0.4).astype(np.uint8)
    ecg_id = np.arange(101, 161)
    return Records(ecg_id, np.repeat(np.arange(1, 10), 7)[:60], np.arange(60) // 2, y, CLASSES)


def own_rows(records: Records) -> list[np.ndarray]:
    """The rows of each fold."""
    return [records.fold == fold for fold in np.unique(records.fold)]


def judged(records: Records, name: str, *seeds: int) -> Judged:
    """A recipe with random probabilities."""
    rng = np.random.default_rng(len(name))
    p = {seed: 0.3 * records.y + 0.7 * rng.random(records.y.shape) for seed in seeds}
    return Judged(name, p, records.fold, 10, 2.0, frozenset({"abc"}))


def test_a_fold_is_predicted_as_by_cross_validation(
    train: Callable[..., None], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cv"
    train(*TINY, "folds=cv", "data.folds.train=[1,2]", f"hydra.run.dir={folder}", "tracking.artifacts=false")
    run, _ = read_finished(folder / f"{FOLD}2", "run", {"val": None, "test": None})

    monkeypatch.setattr(bench_recipes, "FOLDS", (1, 2))
    source = bench_recipes.Source(corpus, tmp_path / "cache")
    prediction = bench_recipes.judge(source, TINY, Held("folds", (2,)), seed=0)

    assert prediction.p.std(axis=0).min() > 0
    np.testing.assert_array_equal(prediction.p, run.evaluate("val").p)
    np.testing.assert_array_equal(prediction.ecg_id, run.data.table("val")["ecg_id"])
    assert set(prediction.fold) == {2}


def test_teachers_that_are_recipes_are_trained_once_without_the_held_out_folds(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_recipes, "FOLDS", (1, 2, 3, 4))
    learn = ["task=distill", "task.labels=superdiagnostic", "task.teacher=[recipe:network,recipe:forest@1]"]
    recipes = {"network": TINY, "forest": ["model=forest", "model.trees=5"], "student": [*TINY, *learn]}
    results, runs = tmp_path / "results", tmp_path / "runs"
    source = bench_recipes.Source(corpus, tmp_path / "cache", results, runs, recipes)
    held = Held("folds", (2,))
    prediction = bench_recipes.judge(source, recipes["student"], held, seed=0)
    assert set(prediction.fold) == {2} and prediction.p.std(axis=0).min() > 0
    assert prediction.notes["options"]["recipe:network"] == TINY

    # Both teachers are kept, with their predictions of the same fold, and are used again.
    folders = sorted(folder for folder in runs.iterdir() if folder.is_dir())
    assert [folder.name.rpartition("_")[0] for folder in folders] == ["forest_folds_2_seed1", "network_folds_2_seed0"]
    forest = read_member(str(folders[0]), "run")
    assert forest.ancestry is not None
    assert recipe_results.read(held.file(results, "forest", 1)).ecg_id.tolist() == prediction.ecg_id.tolist()
    network = recipe_results.read(held.file(results, "network", 0))
    assert network.notes["minutes"] >= 0 and network.p.shape == prediction.p.shape
    before = [file.stat().st_mtime_ns for folder in folders for file in sorted(folder.rglob("*"))]
    again = bench_recipes.judge(source, recipes["student"], held, seed=0)
    np.testing.assert_array_equal(again.p, prediction.p)
    assert before == [file.stat().st_mtime_ns for folder in folders for file in sorted(folder.rglob("*"))]

    unknown = [*TINY, *learn[:2], "task.teacher=[recipe:nothing]"]
    with pytest.raises(UserError, match=r"task\.teacher=recipe:nothing: not one of the recipes network, forest"):
        bench_recipes.judge(source, unknown, held, seed=0)


def test_what_is_judged_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"optimizer.lr": 0.1}
    overrides = ["optimizer.lr=0.1"]
    file = Held("folds", (3,)).file(tmp_path, "fast", 1)
    assert not bench_recipes.is_judged(file, overrides, options, again=False)

    notes = {"overrides": overrides, "options": options, "code": "other", "commit": "c", "parameters": 1, "minutes": 1}
    p = np.array([[0.12345, 1.0]])
    recipe_results.write(file, Prediction(np.array([70_000]), np.array([3]), p, ("CD", "MI"), notes))
    back = recipe_results.read(file)
    assert (back.ecg_id, back.fold, back.classes) == (70_000, 3, ("CD", "MI"))
    np.testing.assert_array_equal(back.p, [[0.1234, 1.0]])

    assert bench_recipes.is_judged(file, overrides, options, again=False)
    # Another version of the package has trained it.
    assert not bench_recipes.is_judged(file, overrides, options, again=True)
    monkeypatch.setattr(recipe_results, "code_hash", lambda: "other")
    assert bench_recipes.is_judged(file, overrides, options, again=True)


def test_a_changed_recipe_is_named() -> None:
    notes = {"overrides": ["a=1"], "options": {"a": 1, "b": [1, 2], "gone": 3}}
    assert recipe_results.changes(notes, ["a=1"], {"a": 1, "b": (1, 2), "new": 4}) == ""
    assert recipe_results.changes(notes, ["a=1"], {"a": 2, "b": [1, 2]}) == "a was 1 and is 2"
    assert recipe_results.changes(notes, ["+c=1"], {"a": 1}) == "the recipe was ['a=1'] and is ['+c=1']"


def test_recipes_differ() -> None:
    recipes = bench_recipes.yaml.safe_load((bench_recipes.HERE / "recipes.yaml").read_text())
    assert bench_recipes.names_base(recipes[bench_recipes.DEFAULT])
    assert recipes["fresh_weights"] == ["init_from=null"]
    assert len({tuple(sorted(overrides)) for overrides in recipes.values()}) == len(recipes)


FROM_BASE = ["init_from={bases}/classes_{held}", "trainer.layer_decay=0.6"]


def test_a_recipe_names_the_base_of_its_held_out_folds() -> None:
    held = Held("groups", (4, 5, 6))
    options = bench_recipes.with_places(Path("made"), FROM_BASE, held)
    assert options == ["init_from=made/classes_4-5-6", "trainer.layer_decay=0.6"]
    assert bench_recipes.with_places(None, ["model=mlp"], held) == ["init_from=null", "model=mlp"]


def test_predictions_are_shown_without_the_bases_and_not_trained() -> None:
    source = bench_recipes.Source(Path("root"), Path("cache"))
    held_out = [Held("groups", folds) for folds in recipe_results.HELD_OUT["groups"]]
    assert bench_recipes.options_by_part(source, FROM_BASE, held_out) == {held.name: {} for held in held_out}
    no_bases = replace(source, bases=Path("nowhere"))
    assert bench_recipes.options_by_part(no_bases, FROM_BASE, held_out) == {held.name: {} for held in held_out}
    with pytest.raises(UserError, match="expected --bases FOLDER"):
        bench_recipes.compose_recipe(source, FROM_BASE, held_out[0], 0)


def test_a_base_whose_generator_knows_the_held_out_folds_is_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two bases, as of bench/make_bases.py: the generator of the first one was fitted to records of fold 9.
    store = PTBXL(corpus, 100, tmp_path / "cache").open()
    (bundle,) = load_bundle("synthetic").bundles
    assert bundle.ancestry is not None
    known = {"knows": store.first_seconds[store.table["strat_fold"] == 9], "new": np.empty(0, "S16")}
    for name, digests in known.items():
        ancestry = replace(bundle.ancestry, generator=digests)
        replace(bundle, ancestry=ancestry).save(tmp_path / f"{name}_9", half=True)
    monkeypatch.setattr(bench_recipes, "FOLDS", (1, 2, 9))
    source = bench_recipes.Source(corpus, tmp_path / "cache", bases=tmp_path)
    held = Held("folds", (9,))
    fast = ["trainer.epochs=1", "trainer.batch_size=8"]
    with pytest.raises(UserError, match="records of the folds 9, which it would be judged on"):
        bench_recipes.judge(source, ["init_from={bases}/knows_{held}", *fast], held, 0)
    prediction = bench_recipes.judge(source, ["init_from={bases}/new_{held}", *fast], held, 0)
    # The notes identify the base, and do not tell where it is.
    assert prediction.notes["options"]["init_from_sha256"] == read_base("synthetic").sha256
    assert str(tmp_path) not in str(prediction.notes)


def test_a_base_is_trained_with_numbers_that_are_fitted_without_the_held_out_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def run_with(package: Path, *words: str | Path, folder: Path) -> None:
        """Note the call. Write what the fit would write."""
        calls.append([str(word) for word in words])
        fitted, listed = (package / name for name in make_bases.FITTED_FILES)
        if "fit_noise" in str(words[0]):
            fitted.write_text("fitted without 4, 5, 6")
        if words[0] == "-m":
            assert fitted.read_text() == "fitted without 4, 5, 6" and listed.exists()

    monkeypatch.setattr(make_bases, "run_with", run_with)
    options = ["init_from=truth_{held}", "trainer.epochs=4"]
    for name in ("first", "second"):
        make_bases.make_base(Path("ptbxl"), tmp_path, name, Held("groups", (4, 5, 6)), options)
    fits = [Path(words[0]).stem for words in calls if words[0] != "-m"]
    assert fits == ["fit_hearts", "fit_noise", "list_fitted_records"]
    assert calls[0][1:] == ["ptbxl", "--leave-out", "4", "5", "6"]
    trained = [words for words in calls if words[0] == "-m"]
    for words, name in zip(trained, ("first", "second"), strict=True):
        assert {"init_from=truth_4-5-6", "trainer.epochs=4", f"hydra.run.dir={tmp_path}/{name}_4-5-6"} <= set(words)
        assert f"data.cache={tmp_path}/generated_4-5-6" in words and "trainer.epochs=8" not in words


@pytest.mark.parametrize("name", ["resnet1d_wang", "xresnet1d101"])
def test_a_peer_has_the_recipe_of_the_benchmark(name: str) -> None:
    source = bench_recipes.Source(Path("root"), Path("cache"))
    held = Held("groups", (1, 2, 3))
    config = bench_recipes.compose_recipe(source, [f"experiment=peer_{name}"], held, seed=0)
    assert (list(config.data.folds.train), list(config.data.folds.test)) == ([4, 5, 6, 7, 8, 9], [1, 2, 3])
    assert config.optimizer == composed("train", "optimizer.lr=1e-2", "optimizer.weight_decay=1e-2").optimizer
    trainer = {"epochs": 50, "batch_size": 128, "clip_norm": None, "window": 2.5, "stride": 1.25, "aggregate": "max"}
    assert config.trainer == {**composed("train").trainer, **trainer}
    for group, option in {"model": name, "schedule": "one_cycle", "augment": "none", "pca": "none"}.items():
        assert config[group] == composed("train", f"{group}={option}")[group]


def test_a_recipe_counts_when_all_folds_are_there(records: Records, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    p = np.round(rng.random(records.y.shape), 4)
    notes = {"overrides": [], "options": {}, "commit": "c", "parameters": 7, "minutes": 3}
    # The classes of the files are in another order, and one file has a record that is not compared.
    backwards = tuple(reversed(CLASSES))
    options: dict[str, dict[str, object]] = {"1-2-3": {}, "4-5-6": {}, "7-8-9": {"init_from_sha256": "b"}}
    for folds in recipe_results.HELD_OUT["groups"]:
        assert recipe_results.pool(tmp_path, records, "r", "groups", [], options) is None
        rows = np.isin(records.fold, folds)
        ecg_id = np.append(records.ecg_id[rows], 999)
        values = np.vstack([p[rows][:, ::-1], np.zeros(5)])
        prediction = Prediction(ecg_id, np.append(records.fold[rows], 1), values, backwards, notes)
        recipe_results.write(Held("groups", folds).file(tmp_path, "r", 2), prediction)
    pooled = recipe_results.pool(tmp_path, records, "r", "groups", [], options)
    assert pooled is not None
    assert list(pooled.p) == [2]
    np.testing.assert_array_equal(pooled.p[2], p)
    np.testing.assert_array_equal(pooled.parts, (records.fold - 1) // 3)
    assert recipe_results.pool(tmp_path, records, "r", "groups", ["changed"], options) is None
    # Another base of one group
    last = Held("groups", (7, 8, 9)).file(tmp_path, "r", 2)
    with_base = {**notes, "options": {"init_from_sha256": "a"}}
    recipe_results.write(last, replace(recipe_results.read(last), notes=with_base))
    assert recipe_results.pool(tmp_path, records, "r", "groups", [], options) is None


def test_differences_are_those_of_the_package(records: Records) -> None:
    default = judged(records, "default", 0)
    other = judged(records, "another one", 0)
    found = recipe_table.differences(records, [other], default)["another one"]
    expected = paired_difference(records.y, default.p[0], other.p[0], groups=records.patient)
    assert found["macro"].value == pytest.approx(expected.difference)
    assert found["macro"].interval.low == pytest.approx(expected.interval.low)
    assert found["macro"].interval.high == pytest.approx(expected.interval.high)
    of_mi = paired_difference(records.y[:, 2:3], default.p[0][:, 2:3], other.p[0][:, 2:3], groups=records.patient)
    assert found["MI"].value == pytest.approx(of_mi.difference)
    assert found["MI"].interval.high == pytest.approx(of_mi.interval.high)


def test_a_mean_has_the_seeds_of_its_recipes(records: Records) -> None:
    of_both = {"a": judged(records, "a", 0, 1), "bb": judged(records, "bb", 1, 2)}
    mean = recipe_results.mean_of("a+bb", of_both)
    assert list(mean.p) == [1]
    np.testing.assert_allclose(mean.p[1], (of_both["a"].p[1] + of_both["bb"].p[1]) / 2)
    assert (mean.parameters, mean.minutes) == (20, 4.0)
    of_seeds = recipe_results.mean_of("a@0+bb@2", of_both)
    np.testing.assert_allclose(of_seeds.p[0], (of_both["a"].p[0] + of_both["bb"].p[2]) / 2)
    with pytest.raises(UserError, match="a@2; expected some of a, bb"):
        recipe_results.mean_of("a@2+bb", of_both)


def test_tables_and_figure(records: Records, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    default = judged(records, "default", 0, 1)
    other = judged(records, "other recipe", 0)
    by_recipe = recipe_table.differences(records, [other], default)
    recipe_table.print_tables(records, [default, other], default, by_recipe, {"other recipe": "`a=1`"})
    recipe_table.write_csv(records, [default, other], default, by_recipe, tmp_path / "figures.csv")
    recipe_table.draw_figure(by_recipe, default, tmp_path / "figure.png")
    lines = capsys.readouterr().out.splitlines()
    folds = [np.mean([macro_auroc(records.y[own], p[own]) for p in default.p.values()]) for own in own_rows(records)]
    assert f"The macro AUROC of default in single folds is {min(folds):.3f} to {max(folds):.3f}." in lines
    # The same number of cells in each row of a table
    assert len({line.count("|") for line in lines[1:5]}) == 1
    assert any(line.startswith("| other recipe | `a=1` | 0.") for line in lines)
    assert any(line.startswith("| other recipe | ") and line.count("|") == 2 + len(CLASSES) for line in lines)
    assert any(line.startswith("1 row is compared with default on 60 records.") for line in lines)
    with (tmp_path / "figures.csv").open() as file:
        by_name = {line["recipe"]: line for line in csv.DictReader(file)}
    gain = by_recipe["other recipe"]["macro"].value
    assert by_name["other recipe"]["less_macro"] == f"{gain:+.4f}"
    assert by_name["default"]["seeds"] == "2" and by_name["default"]["less_macro"] == ""
    assert (tmp_path / "figure.png").stat().st_size > 10_000
