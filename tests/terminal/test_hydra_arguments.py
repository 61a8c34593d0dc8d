"""Flags in any order, and paths as they are typed: Hydra reads what the user meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from einthoven.errors import UserError
from einthoven.terminal.hydra_arguments import arrange

NAMES = [
    "Müller Daten",
    "数据/心电图",
    "a, b",
    "it's",
    'say "x"',
    "[copy]",
    "x [1] {2}",
    "lr=1,seed=2",
    "(copy)",
    "cost $5",
    "$HOME",
    "a:b",
    "~x",
    "100%",
    "a\\b",
    "#1",
]


def value_of(argument: str) -> Any:
    override = OverridesParser.create().parse_override(argument)
    return OmegaConf.create({"value": override.value()}).value


@pytest.mark.parametrize("option", ["run", "init_from", "resume", "hydra.run.dir", "data.root", "+data.sources.a.root"])
@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_read_as_it_is_typed(option: str, name: str) -> None:
    (argument,) = arrange("train", [f"{option}=/somewhere/{name}/x"])
    assert value_of(argument) == f"/somewhere/{name}/x"


@pytest.mark.parametrize("name", [*NAMES, "1", "[a,b]", "true", "1e3", " x ", '"quoted"', "${seed}"])
def test_a_folder_that_exists_is_that_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(parents=True)
    (argument,) = arrange("evaluate", [f"run={name}"])
    assert str(value_of(argument)) == name


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).map(lambda text: f"/p/{text}/q"))
def test_any_path_without_an_interpolation_comes_back(path: str) -> None:
    if "${" not in path:
        (argument,) = arrange("train", [f"data.cache={path}"])
        assert value_of(argument) == path


@pytest.mark.parametrize(
    "typed",
    [
        "data.root='/quoted/ü'",
        'run="a, b"',
        "hydra.run.dir=outputs/${now:%Y}/x",
        "init_from=null",
        "data.folds.train=[1,2]",
        "optimizer.lr=1e-3",
        "run=outputs/2026-01-01/x",
    ],
)
def test_what_hydra_reads_is_left_alone(typed: str) -> None:
    assert arrange("train", [typed]) == [typed]


def test_a_comma_is_a_choice_in_a_sweep_only() -> None:
    assert value_of(arrange("train", ["init_from=a,b"])[0]) == "a,b"
    assert arrange("train", ["-m", "init_from=a,b"]) == ["--multirun", "init_from=a,b"]


def test_lists_of_paths() -> None:
    (argument,) = arrange("train", ["task.teacher=[/ä/run,/b/run 2]"])
    assert list(value_of(argument)) == ["/ä/run", "/b/run 2"]
    assert arrange("train", ["task.teacher=[a,b]"]) == ["task.teacher=[a,b]"]


def test_flags_stand_anywhere() -> None:
    words = ["seed=1", "--cfg", "job", "optimizer=sgd", "-m", "--config-dir=mine", "a=1", "--resolve", "-m"]
    flags = ["--cfg", "job", "--multirun", "--config-dir", "mine", "--resolve"]
    assert arrange("train", words) == [*flags, "seed=1", "optimizer=sgd", "a=1"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--jsn"], "train: --jsn: unknown; expected OPTION=VALUE"),
        (["--experimental-rerun", "x"], "unknown"),
        (["--resume", "outputs/a"], "train: --resume: unknown; expected resume=FOLDER, without dashes."),
        (["--resume=outputs/a"], "expected resume=outputs/a, without dashes."),
        (["seed=1", "--cfg"], "--cfg : expected --cfg job"),
        (["--cfg", "seed=1"], "--cfg seed=1: expected --cfg job"),
        (["--config-dir"], "--config-dir has no value"),
        (["run="], "run=: no value; expected a path"),
        (["data.root="], "data.root=: no value"),
        (["=1"], "=1: no name of an option"),
        (["seed", "=", "1"], "train seed: not an option; expected OPTION=VALUE, without blanks"),
        (["/"], "train /: not an option; expected resume=/."),
    ],
)
def test_a_wrong_word_is_refused(words: list[str], expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        arrange("train", words)
    assert expected in str(refusal.value)
