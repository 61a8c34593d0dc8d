"""Every option in conf/ composes, says what it is, fits its function, and is the only place of its default."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import hydra.utils
import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

import composing
from einthoven import schema, trust
from einthoven.build import build, check
from einthoven.commands.list import describe
from einthoven.errors import UserError
from einthoven.terminal.conf_folders import conf_folder

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
OPTIONS = [(path.parent.name, path.stem) for path in FILES if path.parent.parent == CONF]  # deeper: parts of a recipe
RECIPES = {"experiment", "sweep", "augment"}  # these combine functions, and set them as they need them
PARTS = ("data", "task", "loss", "pca", "augment", "model", "optimizer", "schedule", "penalty", "advice")
OPTIONAL = ("analysis", "figure", "explanation")
OF_TRAINING = [pair for pair in OPTIONS if pair[0] != "calibration"]
FIXED = {"trainer": schema.Trainer, "diagnostics": schema.Diagnostics, "tracking": schema.Tracking}


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


@cache
def _compose(verb: str, *overrides: str) -> DictConfig:
    config = composing.composed(verb, *overrides, with_hydra=True)
    if "data" in config and OmegaConf.is_missing(config.data, "root"):
        config.data.root = "somewhere"
    if "task" in config and OmegaConf.is_missing(config.task, "teacher"):
        config.task.teacher = ["embedded"]
    OmegaConf.set_readonly(config, True)
    return config


def composed(verb: str, *overrides: str) -> DictConfig:
    config = _compose(verb, *overrides)
    HydraConfig.instance().set_config(config)  # the names of a run refer to it
    return config


def compositions() -> list[tuple[str, ...]]:
    """Choices such that each option is in one of them. Hydra needs a third of a second for each.

    A yaml that changes other groups is composed alone. Of the others, one of each group is composed together.
    """
    alone: list[tuple[str, ...]] = []
    together: dict[int, tuple[str, ...]] = {}
    counts: Counter[str] = Counter()
    for group, option in OF_TRAINING:
        lines = (CONF / group / f"{option}.yaml").read_text().splitlines()
        if any(line.startswith(("defaults:", "# @package")) for line in lines):
            alone.append((f"{group}={option}",))
        else:
            together[counts[group]] = (*together.get(counts[group], ()), f"{group}={option}")
            counts[group] += 1
    return [*together.values(), *alone]


COMPOSITIONS = compositions()


def chosen(group: str, option: str) -> DictConfig:
    """A composition with this option."""
    (choices,) = (choices for choices in COMPOSITIONS if f"{group}={option}" in choices)
    return composed("train", *choices)


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "calibration"])
def test_every_calibration_composes_and_fits_its_signature(option: str) -> None:
    check(composed("evaluate", f"calibration={option}")["calibration"], "calibration")


def targets(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a _target_."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield key, node
        for name in node:
            if name != "hydra" and not OmegaConf.is_missing(node, name):
                yield from targets(node[name], f"{key}.{name}".lstrip("."))
    elif isinstance(node, ListConfig):
        for number, item in enumerate(node):
            yield from targets(item, f"{key}.{number}")


def part(config: DictConfig, name: str) -> DictConfig:
    """A part as it is built: of data, without the folds and the shards."""
    node: DictConfig = config[name]
    return (
        OmegaConf.masked_copy(node, [str(k) for k in node if k not in ("folds", "shard", "shards")])
        if name == "data"
        else node
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_the_first_line_says_what_the_file_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    what = describe(path).description
    assert len(what) > 15 and not what.startswith("@")


@pytest.mark.parametrize("choices", COMPOSITIONS, ids=" ".join)
def test_every_option_composes_and_fits_its_signature(choices: tuple[str, ...]) -> None:
    config = composed("train", *choices)
    for name in (*PARTS, *(set(OPTIONAL) & set(map(str, config)))):
        check(part(config, name), name)
    for key, dataclass in FIXED.items():
        schema.read_group(config[key], dataclass, key)
    schema.read_group(config.data.folds, schema.Folds, "data.folds")
    schema.read_group(OmegaConf.create({"seed": config.seed}), schema.Seed, "")
    for name in [*PARTS, *FIXED]:
        OmegaConf.to_container(config[name], resolve=True)  # every interpolation has a value


@pytest.mark.parametrize("verb", [path.stem for path in FILES if path.parent == CONF])
def test_every_verb_composes(verb: str) -> None:
    config = composed(verb)
    for name in set(PARTS) & set(map(str, config)):
        check(part(config, name), name)


def test_every_group_is_in_the_table_of_contents() -> None:
    listed = {str(next(iter(entry))) for entry in OmegaConf.load(CONF / "train.yaml").defaults if entry != "_self_"}
    listed |= {"calibration"} if "calibration" in OmegaConf.load(CONF / "evaluate.yaml").defaults[0] else set()
    assert {group for group, _ in OPTIONS} == {name for name in listed if not name.startswith("override ")}


ADDED = {("einthoven.models.trees.GradientBoosting", "features_per_split")}
"""Parameters that earlier versions do not have. Their default is what those versions did, and not the best value."""


def test_a_default_stands_in_one_place() -> None:
    """A value in yaml is the default of the function's own parameter, where it has one.

    Recipes choose, and so do several options of one function by the values in which they differ.
    """
    values: dict[tuple[str, str], dict[str, Any]] = {}
    for group, option in OPTIONS:
        if group not in (*PARTS, *OPTIONAL) or group in RECIPES:
            continue
        for key, node in targets(part(chosen(group, option), group), group):
            for name, value in node.items():
                plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
                plain = tuple(plain) if isinstance(plain, list) else plain
                values.setdefault((node["_target_"], str(name)), {})[f"{group}/{option}: {key}.{name}"] = plain
    differing = {}
    for (target, name), found in values.items():
        if (target, name) in ADDED:
            continue
        parameters = inspect.signature(hydra.utils.get_object(target)).parameters
        default = parameters[name].default if name in parameters else inspect.Parameter.empty
        if default is not inspect.Parameter.empty and len(set(map(repr, found.values()))) == 1:
            differing |= {where: (plain, default) for where, plain in found.items() if plain != default}
    assert not differing


@pytest.mark.parametrize("group", ["schedule", "augment", "task", "loss", "optimizer", "pca"])
def test_what_can_be_built_without_data_is_built(group: str) -> None:
    for option in sorted(path.stem for path in (CONF / group).glob("*.yaml")):
        config = chosen(group, option).copy()
        OmegaConf.set_readonly(config, False)
        config.data.fs = 500  # at which mains can be recorded
        assert callable(build(config[group])) or group == "task"


# ---------------------------------------------------------------- the checks themselves


def function(
    whole: int,
    number: float = 0.5,
    flag: bool = False,
    word: str = "a",
    maybe: int | None = None,
    pair: tuple[float, float] = (0.0, 1.0),
    shares: Sequence[float] = (),
    texts: Sequence[str] | None = None,
    anything: object = None,
) -> None:
    """A target of the tests below."""


TARGET = f"{__name__}.function"


@pytest.fixture
def trusted() -> Iterator[None]:
    """This module, whose function is a target."""
    with trust.trusting([__name__]):
        yield


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    "values",
    [
        {"whole": 1},
        {"whole": 1, "number": 2},
        {"number": 0.1, "flag": True, "word": "b", "maybe": None},
        {"pair": [1, 0.5], "shares": [], "texts": None, "anything": [None]},
        {"shares": [0.1, 2, 3], "texts": ["a"], "anything": float("nan")},
    ],
)
def test_what_fits_passes(values: dict[str, Any]) -> None:
    check(OmegaConf.create({"_target_": TARGET, "_partial_": True, **values}), "optimizer")


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"whole": 1.5}, "optimizer.whole=1.5: expected a whole number."),
        ({"whole": True}, "optimizer.whole=True: expected a whole number."),
        ({"whole": "abc"}, "optimizer.whole=abc: expected a whole number."),
        ({"whole": None}, "optimizer.whole=None: expected a whole number."),
        ({"number": "much"}, "optimizer.number=much: expected a number."),
        ({"number": float("nan")}, "optimizer.number=nan: expected a number, and a finite one."),
        ({"number": float("-inf")}, "optimizer.number=-inf: expected a number, and a finite one."),
        ({"pair": [1.0]}, "optimizer.pair=[1.0]: expected a list of 2 items, each a number."),
        ({"pair": []}, "optimizer.pair=[]: expected a list of 2 items, each a number."),
        ({"pair": None}, "optimizer.pair=None: expected a list of 2 items, each a number."),
        ({"pair": [0.5, float("inf")]}, "optimizer.pair[1]=inf: expected a number, and a finite one."),
        ({"shares": "abc"}, "optimizer.shares=abc: expected a list, each item a number."),
        ({"shares": 0.5}, "optimizer.shares=0.5: expected a list, each item a number."),
        ({"shares": [0.1, "x"]}, "optimizer.shares[1]=x: expected a number."),
        ({"texts": [1]}, "optimizer.texts[0]=1: expected text."),
        ({"texts": 1}, "optimizer.texts=1: expected a list, each item text or null."),
        ({"flag": 1}, "optimizer.flag=1: expected true or false."),
        ({"word": 3}, "optimizer.word=3: expected text."),
        ({"maybe": "x"}, "optimizer.maybe=x: expected a whole number or null."),
        ({"nubmer": 1.0}, "did you mean number?"),
        ({"whole": "???"}, "optimizer.whole is not set"),
        ({"_target_": "einthoven.optim.optimizers.admw"}, "cannot be found"),
        ({"_target_": f"{__name__}.nowhere"}, "cannot be found"),
        ({"_target_": "nowhere.at.all"}, "add --trust nowhere"),
        ({"_target_": "einthoven.optim"}, "expected a function or a class"),
        ({"number": 1.0}, "optimizer.whole is not set"),
    ],
)
def test_what_does_not_fit_is_one_sentence(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        check(OmegaConf.create({"_target_": TARGET, **values}), "optimizer")
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.usefixtures("trusted")
def test_nested_parts_are_checked_too() -> None:
    config = OmegaConf.create({"many": [{"_target_": TARGET, "whole": 1}, {"_target_": TARGET, "hole": 1}]})
    with pytest.raises(UserError, match=r"many\.1\.hole: unknown; did you mean whole"):
        check(config, "")


@pytest.mark.usefixtures("trusted")
def test_a_function_with_arguments_bound_may_leave_some_open() -> None:
    assert build(OmegaConf.create({"_target_": TARGET, "_partial_": True, "number": 0.1}))(whole=1) is None


@pytest.mark.usefixtures("trusted")
def test_what_is_built_is_plain() -> None:
    """No object of Hydra or OmegaConf is left: each would cost time in each call."""
    inner = {"_target_": TARGET, "_partial_": True, "shares": [0.5], "anything": {"a": ["${word}"]}}
    config = OmegaConf.create(
        {"word": "b", "optimizer": {**inner, "anything": [inner, {"_target_": TARGET, "whole": 1}]}}
    )
    outer = build(config.optimizer)
    nested, called = outer.keywords["anything"]
    assert called is None and type(outer) is type(nested) is partial and outer.func is nested.func is function
    assert outer.keywords["shares"] == [0.5] and type(outer.keywords["shares"]) is list
    assert nested.keywords["anything"] == {"a": ["b"]} and type(nested.keywords["anything"]["a"]) is list


@pytest.mark.usefixtures("trusted")
def test_the_other_keys_of_hydra_mean_what_they_mean_there() -> None:
    inner = {"_target_": TARGET, "whole": 1}
    config = {"_target_": TARGET, "_partial_": True, "_args_": [3, 0.25], "_recursive_": False, "anything": inner}
    assert build(OmegaConf.create(config), "optimizer").args == (3, 0.25)
    assert build(OmegaConf.create(config), "optimizer").keywords == {"anything": inner}
    for change in ({"_partial_": "yes"}, {"_recursive_": 1}, {"_convert_": "none"}):
        with pytest.raises(
            UserError, match=r"optimizer\._(partial|recursive|convert)_=.*: expected (true or false|all)\."
        ):
            build(OmegaConf.create({**config, **change}), "optimizer")


@pytest.mark.parametrize(
    ("group", "change", "expected"),
    [
        ("trainer", {"epochs": 0}, "trainer.epochs=0: expected"),
        ("trainer", {"epochs": "abc"}, "trainer.epochs=abc: expected a whole number"),
        ("trainer", {"epochs": 1.5}, "trainer.epochs=1.5: expected a whole number"),
        ("trainer", {"epoch": 3}, "trainer.epoch: unknown; did you mean epochs"),
        ("trainer", {"batch_size": -1}, "trainer.batch_size=-1"),
        ("trainer", {"micro_batch": 0}, "trainer.micro_batch=0"),
        ("trainer", {"clip_norm": 0.0}, "trainer.clip_norm=0.0"),
        ("trainer", {"clip_norm": float("nan")}, "trainer.clip_norm=nan"),
        ("trainer", {"select": "first"}, "trainer.select=first"),
        ("trainer", {"patience": 0}, "trainer.patience=0"),
        ("trainer", {"window": float("inf")}, "trainer.window=inf"),
        ("trainer", {"window": -2.5}, "trainer.window=-2.5"),
        ("trainer", {"stride": 0.0}, "trainer.stride=0.0"),
        ("trainer", {"aggregate": "median"}, "trainer.aggregate=median"),
        ("trainer", {"sampler": "random"}, "trainer.sampler=random"),
        ("trainer", {"residency": "disk"}, "trainer.residency=disk"),
        ("trainer", {"epochs": "???"}, "trainer.epochs"),
        ("diagnostics", {"gradients": 0}, "diagnostics.gradients=0"),
        ("tracking", {"interval": 0}, "tracking.interval=0"),
        ("tracking", {"uri": "some/folder"}, "tracking.uri=some/folder: expected a database"),
        ("tracking", {"uri": "htp://server"}, "tracking.uri=htp://server: expected a database"),
    ],
)
def test_a_fixed_group_refuses_in_one_sentence(group: str, change: dict[str, Any], expected: str) -> None:
    config = composed("train")
    node = OmegaConf.create({**OmegaConf.to_container(config[group], resolve=True), **change})  # type: ignore[dict-item]
    with pytest.raises(UserError) as refusal:
        schema.read_group(node, FIXED[group], group)  # type: ignore[arg-type]
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("seed", [-1, 2**32, "x", 1.5])
def test_a_seed_out_of_range_is_refused(seed: Any) -> None:
    with pytest.raises(UserError, match="seed"):
        schema.read_group(OmegaConf.create({"seed": seed}), schema.Seed, "")
