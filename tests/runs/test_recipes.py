from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from mlflow import MlflowClient
from omegaconf import DictConfig, OmegaConf

import composing
from einthoven.runs.config.settings import check_settings
from einthoven.terminal.conf_folders import conf_folder
from einthoven.tracking.sweep import arrays
from einthoven.training import checkpoint

CONF = conf_folder()
RECIPES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if "MULTIRUN" in path.read_text())


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


def composed(*overrides: str) -> DictConfig:
    config = composing.composed("train", *overrides, with_hydra=True)
    HydraConfig.instance().set_config(config)
    return config


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_run_of_a_recipe_fits_its_signatures(recipe: str) -> None:
    given = composed(f"experiment={recipe}")
    assert not given.tracking.artifacts and "figure" in given
    params = OmegaConf.to_container(given.hydra.sweeper.params)
    assert isinstance(params, dict)
    choices = {name: str(values).split(",") for name, values in params.items() if name != "seed"}
    for name, values in choices.items():  # one at a time, beside the first of the others: a product takes minutes
        beside = [f"{other}={found[0]}" for other, found in choices.items() if other != name]
        for value in values:
            check_settings(composed(f"experiment={recipe}", *beside, f"{name}={value}"))


def test_the_full_recipe_is_the_default_one_on_the_official_folds() -> None:
    full = composed("experiment=ptbxl_full", "data.root=records")
    default = composed("data=ptbxl", "data.root=records")
    parts = [key for key in default if key not in ("hydra", "experiment")]
    assert {key: full[key] for key in parts} == {key: default[key] for key in parts}
    assert full.data.folds.val == [9] and full.data.folds.test == [10]


def test_a_recipe_ends_as_a_parent_run_with_its_figure(train: Callable[..., None], workplace: Path) -> None:
    """One sweep from its command to the picture: gradients along the depth of four small networks."""
    small = ("model.depth=4", "model.width=8", "trainer.epochs=1", "trainer.batch_size=8")
    train("experiment=vanishing_gradients", *small, "tracking.experiment=recipe")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    found = client.get_experiment_by_name("recipe")
    runs = client.search_runs([found.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 5 and {run.info.status for run in runs} == {"FINISHED"}
    assert " -m " not in parent.data.tags["mlflow.source.name"]  # the recipe itself says that it is a sweep
    picture = client.download_artifacts(parent.info.run_id, "figures/depth_figure.png", str(workplace))
    assert min(matplotlib.image.imread(picture).shape[:2]) > 300
    child = next(run for run in runs if run is not parent)
    artifacts = [file.path for file in client.list_artifacts(child.info.run_id)]
    assert artifacts == ["classes.json", "config.yaml", "data.json", "series"]


TINY = ("trainer.epochs=1", "trainer.device=cpu")
SMALL_CONV = ("model.channels=[8,8]", "model.heads=2")
SMALL = {  # recipe -> what makes it small, and how many runs are left
    "attention_maps": (("trainer.batch_size=8", "experiment/attention_maps@_global_=vit1d", "model.depth=1"), 1),
    "augmentation_ablation": (("trainer.batch_size=8", "augment=none,mixup", "seed=0", *SMALL_CONV), 2),
    "batch_noise": (("trainer.batch_size=8", "model=logistic,mlp"), 2),
    "convexity": (("experiment/convexity@_global_=mlp", "seed=0,1"), 2),
    "edge_of_stability": (("diagnostics.sharpness=1", "model.width=4", "optimizer.lr=0.01,0.02"), 2),
    "information": (("trainer.batch_size=8", "loss.label_smoothing=0.1", *SMALL_CONV), 2),
    "l1_sparsity": (("trainer.batch_size=8", "penalty=l1_proximal,l2", "penalty.strength=0.1,1", "seed=0"), 4),
    "matching": (("trainer.batch_size=8", "model.width=16", "seed=0,1"), 2),
    "pca_ablation": (("trainer.batch_size=8", "pca.k=1,3", "seed=0,1", *SMALL_CONV), 4),
    "positions": (("trainer.batch_size=8", "model.positions=none,rotary", "model.depth=1", "model.dim=16"), 2),
    "prior_posterior": (("trainer.batch_size=8", "penalty.strength=1e-3,1e-1", "model.width=4"), 2),
}


@pytest.mark.parametrize("recipe", SMALL)
def test_a_recipe_of_the_map_draws_its_figure(recipe: str, train: Callable[..., None], workplace: Path) -> None:
    small, children = SMALL[recipe]
    train(f"experiment={recipe}", *TINY, *small, f"tracking.experiment={recipe}")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name(recipe).experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == children + 1 and {run.info.status for run in runs} == {"FINISHED"}
    (picture,) = client.list_artifacts(parent.info.run_id, "figures")
    pixels = matplotlib.image.imread(client.download_artifacts(parent.info.run_id, picture.path, str(workplace)))
    assert min(pixels.shape[:2]) > 300


def test_a_figure_that_cannot_be_drawn_is_a_mistake_of_the_command(
    train: Callable[..., None], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The response figure wants an option with numbers; no optimizer here has a name."""
    sweep = ("-m", "optimizer=sgd,adamw", "figure=response", "figure.option=optimizer.name", "tracking.artifacts=false")
    with pytest.raises(SystemExit) as ending:
        train("model=logistic", "trainer.epochs=1", "trainer.batch_size=8", *sweep, "tracking.experiment=undrawn")
    assert ending.value.code == 2
    assert "figure" in capsys.readouterr().err
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("undrawn").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED", "FINISHED"]


def test_the_analysis_of_a_run_is_kept_with_it(train: Callable[..., None], workplace: Path) -> None:
    small = ("model=logistic", "trainer.epochs=1", "trainer.batch_size=8", "tracking.artifacts=false")
    train("analysis=weights", *small, "tracking.experiment=analysed", "hydra.run.dir=analysed")
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("analysed").experiment_id])
    found = arrays(client, run)
    state, _ = checkpoint.load(workplace / "analysed" / "checkpoints" / "last.safetensors")
    assert found.keys() == {"linear.weight", "linear.bias"} and found["linear.weight"].any()
    for name, values in found.items():
        np.testing.assert_array_equal(values, state["model"][f"network.{name}"].numpy())
