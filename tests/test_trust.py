"""What a file may name: objects of the option's own kind, of its own package; other code is trusted by the user."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from einthoven import cli, trust
from einthoven.build import build, trust_named
from einthoven.errors import UserError
from einthoven.terminal.conf_folders import conf_folder

CONF = conf_folder()
OF_HYDRA = {"hydra", "experiment", "sweep"}  # folders whose files are no parts
WITHOUT_FOLDER = {"mean_with", "network"}  # options that have no folder in `conf/`: they take models


def shipped() -> Iterator[tuple[str, str]]:
    """Every target of the yaml files of this package, with the option that it is in."""

    def walk(node: Any, key: str) -> Iterator[tuple[str, str]]:
        for name, value in (node if isinstance(node, dict) else dict(enumerate(node))).items():
            if name == "_target_":
                yield key, value
            elif isinstance(value, dict | list):
                yield from walk(value, f"{key}.{name}")

    for path in sorted(CONF.glob("*/*.yaml")):
        if path.parent.name not in OF_HYDRA:
            yield from walk(OmegaConf.to_container(OmegaConf.load(path)), path.parent.name)


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of one's own; importing it leaves a file behind."""
    (tmp_path / "own_parts.py").write_text(
        "import os, pathlib, torch\n"
        "from wsgiref.headers import Headers\n"
        "pathlib.Path(__file__).with_name('imported').touch()\n"
        "class Small(torch.nn.Module):\n"
        "    def __init__(self, in_channels, num_classes, width=4): super().__init__()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    yield tmp_path
    sys.modules.pop("own_parts", None)


def test_every_option_of_this_package_is_accepted_without_trust() -> None:
    found = list(shipped())
    assert len(found) > 100 and {key.partition(".")[0] for key, _ in found} == set(trust.PARTS) - WITHOUT_FOLDER
    for key, name in found:
        assert callable(trust.find_target(name, key))


def test_no_option_takes_what_only_another_one_takes() -> None:
    """A figure is no model: the packages of two options may be one, the kinds of their objects are not."""
    for option in set(trust.PARTS) - WITHOUT_FOLDER:
        strange = [(key, name) for key, name in shipped() if key.partition(".")[0] not in (option, "pca")]
        for _, name in strange:
            with pytest.raises(UserError):
                trust.find_target(name, option)


@pytest.mark.parametrize("name", ["torch.nn.Linear", "torch.nn.modules.linear.Linear"])
def test_networks_of_torch_are_accepted(name: str) -> None:
    import torch

    assert trust.find_target(name, "model") is torch.nn.Linear
    assert issubclass(trust.find_target("torch.optim.AdamW", "optimizer"), torch.optim.Optimizer)


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        ("penalty", "os.system", "expected a penalty of einthoven.optim.penalties or"),
        ("penalty", "posix.system", "expected a penalty"),
        ("schedule", "builtins.eval", "expected a schedule"),
        ("model", "einthoven.cli.os.system", "expected a model of einthoven.models or torch.nn."),
        ("model", "einthoven.cli.main", "expected a model"),
        ("model", "einthoven.build.build", "expected a model"),
        ("model", "einthoven.models.mlp.torch.hub.load", "defined in torch; expected a model"),
        ("model", "einthoven.models.mlp.math.exp", "defined in math; expected a model"),
        ("model", "einthoven.models.features.load", "expected a model."),
        ("model", "einthoven.models.features.save", "expected a model."),
        ("model", "einthoven.models.mlp.MLP.load_state_dict", "expected a model."),
        ("model", "einthoven.models.mlp.MLP.__init__", "without private parts."),
        ("model", "einthoven.models.mlp.__builtins__.eval", "without private parts."),
        ("model", "einthoven.models.mlp.__loader__.exec_module", "without private parts."),
        ("model", "einthoven.models", "expected a function or a class."),
        ("model", "einthoven.models.nowhere.MLP", "cannot be found"),
        ("model", "einthoven.models.mlp.MPL", "cannot be found"),
        ("model", "torch.load", "expected a model"),
        ("model", "torch.nn.functional.relu", "expected a model."),
        ("model", "torch.nn.Module.load_state_dict", "expected a model."),
        ("model", "torch.nn.modules.module.warnings.warn", "expected a model"),
        ("model", "torch.nn.parallel.data_parallel", "expected a model."),
        ("optimizer", "torch.optim.Optimizer.load_state_dict", "expected an optimizer."),
        ("optimizer", "einthoven.models.mlp.MLP", "expected an optimizer of einthoven.optim or torch.optim."),
        ("schedule", "einthoven.optim.schedules.math.exp", "expected a schedule"),
        ("data", "einthoven.data.sources.download.download", "expected a source of records."),
        ("data", "einthoven.data.store.packing.os.system", "expected a source of records"),
        ("analysis", "einthoven.runs.comparison.interpolation.checkpoint.load", "expected an analysis"),
        ("analysis", "einthoven.runs.train_one.train_one", "expected an analysis"),
        ("figure", "einthoven.report.page.render", "cannot be found"),
        ("task.objective", "einthoven.tasks.classification.Classification", "expected a loss"),
        ("trainer", "einthoven.models.mlp.MLP", "no code is expected here"),
        ("", "einthoven.models.mlp.MLP", "no code is expected here"),
        ("model", "einthoven.models.mlp.MLP ", "without private parts."),
        ("model", "einthoven.models.mlp.MLP\n", "without private parts."),
        ("model", "einthoven..models.mlp.MLP", "without private parts."),
        ("model", "einthoven\N{FULLWIDTH FULL STOP}models.mlp.MLP", "without private parts."),
        ("model", "einthoven.models.mlp.\N{MATHEMATICAL BOLD CAPITAL M}LP", "without private parts."),
        ("model", "MLP", "without private parts."),
        ("model", "", "without private parts."),
        ("model", 3, "expected the dotted name"),
        ("model", ["os.system"], "expected the dotted name"),
        ("model", "m" * 100_000, "without private parts."),
    ],
)
def test_what_a_stranger_may_not_name_is_one_sentence(key: str, name: Any, expected: str) -> None:
    with pytest.raises(UserError) as refusal:
        trust.find_target(name, key)
    sentence = str(refusal.value)
    assert expected in sentence and sentence.endswith(".") and "\n" not in sentence and len(sentence) < 400


def test_code_of_ones_own_is_not_even_imported_without_trust(outside: Path) -> None:
    with pytest.raises(UserError, match=r"own_parts\.Small: this code is not part of einthoven; add --trust own_parts"):
        trust.find_target("own_parts.Small", "model")
    assert not (outside / "imported").exists() and "own_parts" not in sys.modules


def test_trust_is_of_a_module_and_ends_with_its_block(outside: Path) -> None:
    with trust.trusting(["own_parts"]):
        assert trust.find_target("own_parts.Small", "model").__name__ == "Small"
        assert trust.find_target("own_parts.Small", "optimizer"), "what trusted code is, its author knows"
    with pytest.raises(UserError, match="add --trust own_parts"):
        trust.find_target("own_parts.Small", "model")
    with trust.trusting(["own"]), pytest.raises(UserError, match="add --trust own_parts"):  # another module
        trust.find_target("own_parts.Small", "model")


@pytest.mark.parametrize("name", ["own_parts.os.system", "own_parts.pathlib.os.system", "own_parts.Headers"])
def test_what_a_trusted_module_has_imported_is_not_trusted_with_it(outside: Path, name: str) -> None:
    with trust.trusting(["own_parts"]), pytest.raises(UserError, match="defined in"):
        trust.find_target(name, "model")


def test_a_trusted_module_that_is_not_there_is_one_sentence() -> None:
    with trust.trusting(["gone_parts"]), pytest.raises(UserError, match=r"cannot be found .*PYTHONPATH\.$"):
        trust.find_target("gone_parts.Small", "model")


def test_a_module_of_the_user_that_is_not_there_is_one_sentence() -> None:
    typed = OmegaConf.create({"model": {"_target_": "gone_parts.Small"}})
    with trust.trusting([]), pytest.raises(UserError, match=r"cannot be found .*PYTHONPATH\.$"):
        trust_named(typed)
        build(typed.model)


def test_what_the_user_has_composed_is_trusted_by_its_name(outside: Path) -> None:
    typed = OmegaConf.create({"model": {"_target_": "own_parts.Small", "_partial_": True}, "schedule": {"a": "???"}})
    with trust.trusting([]):
        trust_named(typed)
        assert build(typed.model).func.__name__ == "Small"
        with pytest.raises(UserError, match="add --trust own_parts"):
            trust.find_target("own_parts.torch", "model")


@pytest.mark.parametrize("key", ["model", "model.inner", "augment.transforms.0", "trainer"])
def test_nothing_is_built_that_is_not_accepted(key: str, tmp_path: Path) -> None:
    """`build` itself compares, so that no way to a configuration goes around it."""
    hostile = OmegaConf.create({"_target_": "os.mkdir", "path": str(tmp_path / "run")})
    with pytest.raises(UserError, match=r"_target_=os\.mkdir: "):
        build(hostile, key)
    for nested in ({"a": hostile}, {"a": [hostile]}, {"a": {"b": [[hostile]]}}):
        config = OmegaConf.create({"_target_": "torch.nn.Identity", "_partial_": True, **nested})
        with pytest.raises(UserError, match=r"_target_=os\.mkdir: "):
            build(config, key)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "modules", "rest"),
    [
        (["a=1"], [], ["a=1"]),
        (["--trust", "my_parts", "a=1"], ["my_parts"], ["a=1"]),
        (["a=1", "--trust=my_parts.inner"], ["my_parts.inner"], ["a=1"]),
        (["--trust", "a", "-m", "--trust", "b"], ["a", "b"], ["-m"]),
        (["--trust", "http://here:5000", "run=a"], ["http://here:5000"], ["run=a"]),
    ],
)
def test_trust_is_taken_from_the_command_line(arguments: list[str], modules: list[str], rest: list[str]) -> None:
    assert cli._split_trust(arguments) == (modules, rest)


@pytest.mark.parametrize("arguments", [["--trust"], ["--trust="], ["--trust", "a/b.py"], ["--trust", "a..b"]])
def test_trust_takes_the_name_of_a_module(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="expected a Python module"):
        cli._split_trust(arguments)
