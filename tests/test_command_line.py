"""Commands that are printed can be pasted: the shell and Hydra read of them what was meant."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from einthoven import command_line, trust
from einthoven.command_line import command, option, readable, suggestion, train_command

PARSER = OverridesParser.create()


def read_by_hydra(argument: str) -> tuple[str, Any]:
    """Name and value of an option, as a configuration has them."""
    override = PARSER.parse_override(argument)
    return override.get_key_element(), OmegaConf.create({"value": override.value()}).value


HARD = ["", " ", "a b", "Müller Daten/ß", "a,b", "[x]", "{a: 1}", "it's", 'say "x"', "$HOME", "${seed}", "\\${seed}"]
HARD += [
    "a=b",
    "~/x",
    "(copy)",
    "null",
    "1",
    "1e3",
    ".5",
    "True",
    "nan",
    "x\\",
    "x\\\\",
    '\\"',
    "日本",
    "a:b",
    "#",
    "-m",
]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12))
@example("\\\\${a}")
def test_any_text_comes_back_from_hydra(text: str) -> None:
    assert read_by_hydra(option("run", text)) == ("run", text)


@pytest.mark.parametrize("text", HARD)
def test_a_printed_command_is_read_by_the_shell_and_by_hydra(text: str) -> None:
    program, verb, argument = shlex.split(command("evaluate", option("run", text)))
    assert program.endswith("einthoven") and verb == "evaluate"
    assert read_by_hydra(argument) == ("run", text)
    assert read_by_hydra(shlex.split(suggestion(f"run={text}"))[0]) == ("run", text)


def test_usual_paths_are_printed_as_they_are() -> None:
    assert option("run", "outputs/2026-01-01/12-00-00-synthetic-mlp") == (
        "run=outputs/2026-01-01/12-00-00-synthetic-mlp"
    )
    assert option("run", "/tmp/a_b.c+d") == "run=/tmp/a_b.c+d"


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.root=/daten/Müller/x", "/daten/Müller/x"),
        ("run=outputs/lr=1/seed=2", "outputs/lr=1/seed=2"),
        ("data.root=~/ecg", "~/ecg"),
        ("tracking.run_name=a&b;c!", "a&b;c!"),
        ("tracking.run_name=日本", "日本"),
    ],
)
def test_a_value_that_the_grammar_has_no_place_for_is_read_as_itself(typed: str, value: str) -> None:
    assert read_by_hydra(readable(typed))[1] == value


@pytest.mark.parametrize(
    "typed",
    [
        "optimizer=sgd,adamw",
        "a=[1,2]",
        "a={b: 1}",
        "a='ü'",
        'a="ü"',
        "a=ü,ä",
        "a=range(1,3)",
        "a=${oc.env:HOME}",
        "a=1e-3",
        "a=null",
        "a=/usual/path",
        "a=x y",
        "-m",
        "--cfg",
        "ü",
        "a=",
    ],
)
def test_what_means_something_to_hydra_is_left_to_it(typed: str) -> None:
    assert readable(typed) == typed


def test_modules_that_were_needed_are_named_where_a_run_is_read() -> None:
    with trust.trusting(["my_parts.Small", "einthoven.models.mlp.MLP", "torch.nn", "sqlite:///mlflow.db"]):
        assert shlex.split(command("predict", "run"))[1:] == ["predict", "--trust", "my_parts", "run"]
        assert "--trust" not in command("train", "model=small")  # the command itself names the module
        assert "--trust my_parts" in command("train", "resume=run")
        assert "--trust my_parts" in command("train", "init_from=run")
        assert "--trust my_parts" in command("embed", "run") and "--trust my_parts" in command("probe", "run=run")
        assert shlex.split(command("sync", "run", trusted=["http://here"]))[2:] == [*("--trust", "http://here", "run")]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("text", HARD)
def test_what_is_printed_for_make_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAKELEVEL", "1")
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    (tmp_path / "show.py").write_text(show)
    recipe = f"\t@{sys.executable} show.py $(ARGS)\n"
    (tmp_path / "Makefile").write_text(f"ARGS ?=\ntrain:\n{recipe}sweep:\n{recipe}")
    typed = train_command(option("run", text), "seed=1", several=text == "a,b")
    assert typed.startswith("make sweep ARGS='" if text == "a,b" else "make train ARGS='")
    monkeypatch.delenv("MAKELEVEL")
    found = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, check=True)
    first, second = json.loads(found.stdout)
    assert read_by_hydra(first) == ("run", text) and second == "seed=1"


def test_make_is_printed_only_to_those_who_typed_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAKELEVEL", raising=False)
    (tmp_path / "Makefile").touch()  # of another project
    assert shlex.split(train_command("a=1", several=True))[1:] == ["train", "-m", "a=1"]
    (tmp_path / "Makefile").unlink()
    monkeypatch.setenv("MAKELEVEL", "1")
    assert shlex.split(train_command("a=1"))[1:] == ["train", "a=1"]


def test_a_program_that_the_shell_does_not_find_is_named_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "einthoven").touch()
    monkeypatch.setattr(command_line.shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert command("ui") == f"{tmp_path}/bin/einthoven ui"
    monkeypatch.chdir(tmp_path)
    assert command("ui") == "bin/einthoven ui"
