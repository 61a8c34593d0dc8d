"""What the user has typed comes back in the commands that are printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from composing import composed
from einthoven.runs.config.next_commands import ExampleRecord, as_typed, bundle_commands, hydra_options, without
from einthoven.runs.config.run_name import with_trainer_name
from einthoven.tracking.privacy import without_folders


def test_options_of_hydra_that_another_run_needs_are_given_again() -> None:
    sources = [
        {"provider": "main", "path": "/conf"},
        {"provider": "command-line", "path": "/my conf"},
        {"provider": "hydra.searchpath in command-line", "path": "/other"},
    ]
    given = ["hydra.mode=MULTIRUN", "hydra.searchpath=[file://other]", "hydra.run.dir=here", "hydra/launcher=joblib"]
    hydra = OmegaConf.create({"runtime": {"config_sources": sources}, "overrides": {"hydra": given}})
    expected = ["--config-dir", "/my conf", "hydra.searchpath=[file://other]", "hydra/launcher=joblib"]
    assert hydra_options(hydra) == expected


def test_options_of_a_group_are_left_out_in_every_form() -> None:
    given = ["optimizer=sam", "optimizer@optimizer.base=sgd", "+optimizer.options.eps=1", "~optimizer.lr", "seed=1"]
    kept = ["optimizers=3", "data.seed=1", "model=mlp"]
    assert without([*given, *kept], "optimizer", "seed") == kept


def test_one_option_is_left_out_of_its_group() -> None:
    given = ["trainer.profile=5", "+trainer.profile=5", "trainer=default", "trainer.profiles=1", "trainer.epochs=2"]
    assert without(given, "trainer.profile") == ["trainer=default", "trainer.profiles=1", "trainer.epochs=2"]


PARTS = "-".join(f"${{hydra:runtime.choices.{group}}}" for group in ("data", "model", "optimizer", "schedule"))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), PARTS + "-seed${seed}"),
        (("trainer.ema=0.99",), PARTS + "-ema0.99-seed${seed}"),
        (("trainer.swa=3", "trainer.profile=5"), PARTS + "-swa3-profile5-seed${seed}"),
        (("trainer.swa=3", "tracking.run_name=mine"), "mine"),
    ],
)
def test_a_name_says_how_the_weights_are_averaged_and_what_is_profiled(options: tuple[str, ...], name: str) -> None:
    config = with_trainer_name(composed("train", *options))
    assert OmegaConf.to_container(config.tracking, resolve=False)["run_name"] == name


@pytest.mark.parametrize(
    ("tagged", "typed", "expected"),
    [
        (["a.root=/x/y z"], ["a.root=/x/y z"], ["a.root=/x/y z"]),
        (["a.root=/x/y\\ z", "seed=1"], ["a.root=/x/y z", "seed=0,1"], ["a.root=/x/y z", "seed=1"]),
        (['a.root="/daten/ü, [x]"'], ['a.root="/daten/ü, [x]"'], ['a.root="/daten/ü, [x]"']),
        (["a.root=/x/two"], ["a.root=/x/one,/x/two"], ["a.root=/x/two"]),
        (["a.b=[8,8]", "lr=0.1"], ["a.b=[8,8]", "lr=interval(0,1)"], ["a.b=[8,8]", "lr=0.1"]),
        (
            ["a.uri=sqlite:////x/m.db", "seed=1"],
            ["a.uri=sqlite:////x/m.db", "seed=0,1"],
            ["a.uri=sqlite:////x/m.db", "seed=1"],
        ),
        (["a.root=/x/y z/data", "seed=1"], ["a.root=/x/y z/data", "seed=0,1"], ["a.root=/x/y z/data", "seed=1"]),
        (["a.roots=[/x/y,/z]", "seed=1"], ["a.roots=[/x/y, /z]", "seed=0,1"], ["a.roots=[/x/y, /z]", "seed=1"]),
        (["of_the_recipe=1"], [], ["of_the_recipe=1"]),
        (["of_the_recipe=/x/y"], [], None),
        (["a.root=/x/data"], ["a.root=/x/data,/y/data"], None),  # the tag does not say which
    ],
)
def test_folders_that_a_tag_does_not_tell_come_from_what_was_typed(
    tagged: list[str], typed: list[str], expected: list[str] | None
) -> None:
    assert as_typed([without_folders(option) for option in tagged], typed) == expected


@pytest.mark.parametrize(
    ("labels", "purpose"),
    [
        (("CD", "MI"), "read a test record with the labels CD MI, or an ECG file of yours"),
        (("CD",), "read a test record with the label CD, or an ECG file of yours"),
        ((), "read a test record without a label, or an ECG file of yours"),
        (None, "read a test record, or an ECG file of yours"),
    ],
)
def test_the_labels_of_an_example_stand_beside_its_command(labels: tuple[str, ...] | None, purpose: str) -> None:
    commands = bundle_commands(Path("outputs/run"), ExampleRecord(Path("a.hea"), "test", labels))
    assert commands[0][1] == purpose
