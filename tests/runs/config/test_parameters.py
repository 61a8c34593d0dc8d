"""What the runs of an experiment are compared by."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import composing
from einthoven.errors import UserError
from einthoven.runs.config.parameters import chosen_options, parameters, read_options


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


def composed(*overrides: str) -> DictConfig:
    config = composing.composed("train", *overrides, with_hydra=True)
    HydraConfig.instance().set_config(config)
    own = OmegaConf.masked_copy(config, [name for name in config if name != "hydra"])
    assert isinstance(own, DictConfig)
    return own


def test_parts_stand_under_the_names_of_their_options() -> None:
    found = parameters(composed("optimizer=sgd", "schedule=one_cycle", "seed=3"), ["optimizer=sgd", "seed=3"])
    expected = {"model": "conv_attention", "optimizer": "sgd", "schedule": "one_cycle", "augment": "default", "seed": 3}
    assert {name: found[name] for name in expected} == expected
    assert found["optimizer.momentum"] == 0.9 and found["trainer.batch_size"] == 32
    assert not [name for name in found if name.endswith(("._target_", "._partial_"))]
    assert not [name for name in found if name.startswith(("augment.", "diagnostics.", "tracking.", "advice."))]
    assert "model.fs" not in found and found["data.fs"] == 100  # ${data.fs}


@pytest.mark.parametrize(
    "override",
    [
        "diagnostics.noise_scale=3",
        "augment.transforms.mixup.probability=0.5",
        "model._target_=einthoven.models.mlp.MLP",
        "model.fs=250",
        "+model.extra=1",
    ],
)
def test_what_the_command_line_gave_is_always_there(override: str) -> None:
    name, _, value = override.lstrip("+").partition("=")
    assert str(parameters(composed(override), [override])[name]) == value


def test_a_module_outside_of_the_package_is_always_there() -> None:
    found = parameters(composed("optimizer._target_=torch.optim.Adam", "loss._target_=my_losses.mine"), [])
    assert found["optimizer._target_"] == "torch.optim.Adam" and found["loss._target_"] == "my_losses.mine"
    assert "model._target_" not in found


def test_a_part_that_a_run_does_not_have_is_none_of_its_parameters() -> None:
    config = OmegaConf.masked_copy(composed("model=forest"), ["data", "task", "model", "tracking", "advice", "seed"])
    assert isinstance(config, DictConfig)
    found = parameters(config, ["model=forest"])
    assert found["model"] == "forest" and found["data.folds.val"] == [9]
    assert not {"optimizer", "schedule", "augment", "loss"} & set(found)


def test_without_a_command_there_are_no_choices() -> None:
    HydraConfig.instance().cfg = None
    assert chosen_options() == {}


def test_the_options_of_a_written_configuration_are_read_as_plain_values() -> None:
    found = read_options("optimizer:\n  lr: 0.1\ntracking:\n  uri: x\nseed: 0\n")
    assert found == {"optimizer.lr": "0.1", "seed": "0"}
    for broken in ("- 1\n- 2\n", "a: [", "a: &x [*x]", "a: ${oc.env:HOME}"):
        with pytest.raises(UserError):
            read_options(broken)
