"""The documentation site: its pages are complete, its reference is read from the package, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from einthoven.commands.list import describe
from einthoven.terminal.conf_folders import conf_folder
from einthoven.terminal.usage import VERB_HELP

sys.path.append(str(Path(__file__).parents[1] / "website"))
import api_pages
import build
import links
import option_pages

ROOT = build.ROOT


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages of the site, in Markdown."""
    folder = tmp_path_factory.mktemp("website") / "docs"
    build.collect(folder)
    return folder


def paths_in(entries: list[object]) -> list[str]:
    """The pages of a navigation."""
    found: list[str] = []
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += paths_in(value) if isinstance(value, list) else [str(value)]
    return found


def test_the_navigation_has_each_page_once(pages: Path) -> None:
    config = yaml.safe_load(build.site_configuration(pages))
    named = paths_in(config["nav"])
    assert len(named) == len(set(named))
    assert set(named) == {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}


def test_each_option_and_each_command_has_a_place(pages: Path) -> None:
    for file in conf_folder().glob("*/*.yaml"):
        page = (pages / "reference" / "options" / f"{file.parent.name}.md").read_text()
        assert f"\n## {file.stem}\n" in page, file
        assert describe(file).description[:40].replace("<", "&lt;") in page, file
    commands = (pages / "reference" / "commands" / "index.md").read_text()
    assert re.findall(r"^## einthoven (\w+)$", commands, flags=re.MULTILINE) == list(VERB_HELP)


def test_a_value_has_its_default_and_its_meaning() -> None:
    values = {value.name: value for value in option_pages.values_of(conf_folder() / "optimizer" / "adamw.yaml")}
    assert values["lr"].default == "4e-3"
    assert values["lr"].meaning.startswith("Peak learning rate")  # of the module of the function

    values = {value.name: value for value in option_pages.values_of(conf_folder() / "augment" / "default.yaml")}
    assert values["transforms.noise.max_std"].default == "0.05"
    assert values["transforms.noise.max_std"].meaning == "mV"
    assert "share of the first record" in values["transforms.mixup.alpha"].meaning  # of augment=mixup
    assert "probability" in values["transforms.noise.probability"].meaning.lower()  # of the docstring of `add_noise`
    values = {value.name: value for value in option_pages.values_of(conf_folder() / "folds" / "cv.yaml")}
    assert values["cross_validate"].meaning.startswith("Hold out each training fold")  # of the class `Folds`


def test_each_value_of_an_option_has_a_meaning() -> None:
    silent = []
    for group, files in option_pages.groups():
        if group not in option_pages.RECIPES:
            for file in files:
                silent += [f"{group}={file.stem}: {v.name}" for v in option_pages.values_of(file) if not v.meaning]
    assert not silent


def test_a_mean_and_its_spread_stay_in_one_line(pages: Path) -> None:
    text = (pages / "results.md").read_text()
    assert "0.9206\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.0003" in text
    assert not re.search(r"\d ± \d", text)


def test_a_link_to_a_function_leads_to_its_documentation() -> None:
    text = "[`models/mlp.py: DenseLayer`](../src/einthoven/models/mlp.py) and [the code](../src/einthoven/cli.py)"
    assert build.with_site_links(text, ROOT / "docs" / "math.md", Path("math.md")) == (
        "[`models/mlp.py: DenseLayer`](api/models.md#einthoven.models.mlp.DenseLayer) and the code"
    )
    in_table = "\n| dense | [`models/mlp.py: DenseLayer`](../src/einthoven/models/mlp.py) |"
    assert build.with_site_links(in_table, ROOT / "docs" / "math.md", Path("math.md")) == (
        "\n| dense | [`DenseLayer`](api/models.md#einthoven.models.mlp.DenseLayer) |"
    )
    assert "DenseLayer" in api_pages.public_names(ROOT / "src" / "einthoven" / "models" / "mlp.py")


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there"></a><a href="b.html#gone"></a><img src="c.png">')
    (tmp_path / "b.html").write_text('<h1 id="there"></h1><a href="https://example.org/x"></a><a href="a.html"></a>')
    assert links.broken_links(tmp_path) == [
        "a.html: b.html#gone (no such place in the page)",
        "a.html: c.png (no such file)",
    ]


def test_the_site_is_built_without_a_warning() -> None:
    result = subprocess.run([sys.executable, "website/build.py"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    front = (build.SITE / "index.html").read_text()
    # Fonts and scripts of another server would tell it who reads the page.
    assert not re.findall(r'<(?:link|script)[^>]+(?:href|src)="https?://', front)
