"""What README and docs say can be typed, opened and looked up: commands compose, links lead somewhere."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf

import composing
from einthoven.build import check
from einthoven.commands.list import _read_words
from einthoven.commands.prepare import _without_shards
from einthoven.data.sources import labels
from einthoven.runs.config.settings import check_settings
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.usage import HELP, VERB_HELP

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "einthoven"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUPS = sorted(folder.name for folder in conf_folder().iterdir() if folder.is_dir())
SOURCES = sorted(f"data={path.stem}" for path in (conf_folder() / "data").glob("*.yaml"))
TASKS_WITH_OPTIONS = ("task=contrastive", "task=cpc", "task=distill", "task=generator", "task=masked", "task=vae")
CHOICES = (*SOURCES, *TASKS_WITH_OPTIONS, "model=gradient_boosting")  # each has options of its own
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", flags=re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[…<A-Z]")  # of a sentence about commands: make X, einthoven VERB, data.root=…


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    HydraConfig.instance().cfg = None


@cache
def spans(page: Path) -> tuple[str, ...]:
    """Inline code of a page."""
    return tuple(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text())))


@cache
def blocks(page: Path, language: str) -> tuple[str, ...]:
    """Code blocks of a page in one language."""
    return tuple(body for name, body in FENCE.findall(page.read_text()) if name == language)


def everywhere(pattern: str) -> list[str]:
    """Inline code of all pages that is of one form as a whole."""
    return sorted({span for page in PAGES for span in spans(page) if re.fullmatch(pattern, span)})


def joined(block: str) -> list[str]:
    """Lines of a block, those that a backslash continues as one."""
    return re.sub(r"\\\n\s*", "", block).splitlines()


def commands() -> list[str]:
    typed = [line.strip() for page in PAGES for block in blocks(page, "bash") for line in joined(block)]
    inline = [span for span in everywhere(r"(einthoven|make) .*") if not PLACEHOLDER.search(span)]
    help_lines = [line for text in (HELP, *VERB_HELP.values()) for line in text.splitlines()]
    shown = [line.strip() for line in help_lines if line.startswith("  einthoven ")]
    return sorted({line for line in (*typed, *inline, *shown) if line})


def composed(verb: str, *overrides: str) -> DictConfig:
    config = composing.composed(verb, *overrides, with_hydra=True)
    HydraConfig.instance().set_config(config)
    return config


def without_flags(arguments: list[str]) -> list[str]:
    """Overrides alone: no ``-m``, no ``--cfg job``."""
    flags = [n for n, argument in enumerate(arguments) if argument.startswith("-")]
    values = [n + 1 for n in flags if arguments[n] in ("--cfg", "-p")]
    return [argument for n, argument in enumerate(arguments) if n not in flags + values]


def values_of(override: Override) -> list[str]:
    """What an option is in the runs of a sweep; of an interval, its ends."""
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_interval_sweep():
        interval = override.value()
        assert isinstance(interval, IntervalSweep)
        return [str(interval.start), str(interval.end)]
    return list(override.sweep_string_iterator())


def check_overrides(verb: str, arguments: list[str]) -> None:
    """Compose runs that a command asks for, each value in one of them, and bind every signature."""
    options = without_flags(arguments)
    # The launcher of Ray has an environment of its own.
    if find_spec("hydra_plugins.hydra_ray_launcher") is None:
        options = [option for option in options if option not in ("hydra/launcher=ray", "hydra/launcher=ray_cluster")]
    parsed = OverridesParser.create().parse_overrides(options)
    choices = [values_of(override) for override in parsed]
    assert "-m" in arguments or all(len(choice) == 1 for choice in choices), "a comma needs -m"
    for k in range(max(map(len, choices), default=1)):  # each value once; all combinations would take minutes
        pairs = [(override, values[k % len(values)]) for override, values in zip(parsed, choices, strict=True)]
        config = composed(verb, *(f"{o.get_key_element()}={value}" for o, value in pairs))
        if verb == "train":
            check_settings(config)
        else:
            check(_without_shards(config.data), "data")


# ---------------------------------------------------------------- commands


def test_there_are_commands_to_test() -> None:
    assert len(commands()) > 15


@pytest.mark.parametrize("command", [c for c in commands() if "hydra.searchpath" not in c])
def test_a_command_composes(command: str) -> None:
    words = [word for word in shlex.split(command) if not word.startswith("OMP_NUM_THREADS=")]
    if "torchrun" in words:  # it starts `python -m einthoven` in several processes
        words = words[words.index("einthoven") :]
    program, first, *rest = words
    if not rest and program == "einthoven" and first in VERB_HELP:
        return  # a verb spoken of
    if program == "make":
        assert first in TARGETS
        arguments = [word.removeprefix("ARGS=") for word in rest if word.startswith("ARGS=")]
        if arguments and first in ("train", "sweep", "prepare"):
            check_overrides("prepare" if first == "prepare" else "train", shlex.split(arguments[0]))
    elif program == "einthoven" and first in ("train", "prepare"):
        check_overrides(first, rest)
    elif program == "einthoven" and first == "list":
        assert _read_words([word for word in rest if word != "--plot"], GROUPS, [conf_folder()])
    elif program == "einthoven" and first in ("evaluate", "probe"):
        composed(first, *rest)
    elif program == "einthoven" and first == "embed":
        assert "--output" in rest
    elif program == "einthoven" and first in ("predict", "explain", "app"):
        assert all(word in VERB_HELP[first] for word in rest if word.startswith("--"))
    elif program == "einthoven" and first == "report":
        assert {word.split("=")[0] for word in rest if "=" in word} <= {"output", "uri"}
    elif program == "einthoven" and first == "ui":
        assert {word.split("=")[0] for word in rest} <= {"uri", "port"}
    elif program == "einthoven" and first == "doctor":
        assert rest and not [word for word in rest if word.startswith("--")]
    else:
        assert command in ("einthoven --help", "einthoven --version")


def test_the_two_commands_of_a_newcomer_are_there() -> None:
    assert "make train\nmake test\n" in blocks(PAGES[0], "bash")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_every_make_target_is_explained_in_help(target: str) -> None:
    assert re.search(rf"^{target}:.*## \S", MAKEFILE, flags=re.MULTILINE)


# ---------------------------------------------------------------- options


@cache
def of_choice(choice: str) -> DictConfig:
    """Options of a run with a source or a task, to look up whether there is one: interpolations are not resolved."""
    return composed("train", choice)


def exists(key: str, choice: str) -> bool:
    node = of_choice(choice)
    for name in key.split("."):
        if not isinstance(node, DictConfig) or name not in list(node):
            return False
        node = node._get_node(name)  # type: ignore[assignment]  # the node itself: its value may be missing
    return True


# A name such as folds.csv or data.json is that of a file.
@pytest.mark.parametrize("key", everywhere(rf"({'|'.join(GROUPS)})(\.(?!(csv|json)\b)[a-z_]+)+(=.*)?"))
def test_an_option_exists(key: str) -> None:
    assert any(exists(key.split("=")[0], choice) for choice in CHOICES)


@pytest.mark.parametrize("option", [o for o in everywhere(r"[a-z_.]+=[^=]+") if not PLACEHOLDER.search(o)])
def test_an_option_takes_its_value(option: str) -> None:
    key, value = option.split("=")
    if key in GROUPS:  # each file of a group is composed elsewhere
        assert (conf_folder() / key / f"{value}.yaml").exists()
        return
    having = [choice for choice in CHOICES if exists(key, choice)]
    config = of_choice("data=ptbxl" if "data=ptbxl" in having or not having else having[0]).copy()
    OmegaConf.update(config, key, OverridesParser.create().parse_override(option).value())
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = "somewhere"
    if key in ("task.read_weight", "task.soft_targets"):
        config.task.targets = "all"  # they have no effect without
    HydraConfig.instance().set_config(config)  # the names of a run refer to it
    check_settings(config)


def test_the_columns_of_a_corpus_are_told() -> None:
    told = set(spans(ROOT / "docs" / "ptbxl.md"))
    assert {*labels._DATABASE_COLUMNS, *labels._STATEMENT_COLUMNS} <= told


# ---------------------------------------------------------------- links, files, functions, metrics


def anchor_of(heading: str) -> str:
    """The name of a heading in a link, as GitHub and the site make it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in map(anchor_of, headings), link


@pytest.mark.parametrize("path", everywhere(r"[\w./-]+/[\w.-]+\.(py|yaml|md)"))
def test_a_file_exists(path: str) -> None:
    assert (ROOT / path).exists() or (SRC / path).exists()


@pytest.mark.parametrize("reference", everywhere(r"[\w/]+\.py: [\w.]+"))
def test_a_function_is_where_it_is_said_to_be(reference: str) -> None:
    path, name = reference.split(": ")
    body: list[ast.stmt] = ast.parse((SRC / path).read_text()).body
    for part in name.split("."):
        found = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        assert found, f"{path} has no {name}"
        body = found[0].body


@cache
def whole_source() -> str:
    return "\n".join(file.read_text() for file in SRC.rglob("*.py"))


@pytest.mark.parametrize("metric", everywhere(r"(train|val|test|grad|diag|optim)/[a-z_]+(/<[a-z]+>)?"))
def test_a_metric_is_named_in_the_source(metric: str) -> None:
    source = whole_source()
    name = metric.partition("/<")[0]
    assert f'"{name}' in source or f'"{name.partition("/")[2]}"' in source or f"{name.partition('/')[2]}/{{" in source
