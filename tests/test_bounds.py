"""The lowest versions that `make test-bounds` installs are the bounds of pyproject.toml."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
lowest_versions = runpy.run_path(str(ROOT / "bench" / "lowest_versions.py"))["lowest_versions"]
STUBS = {"pandas-stubs", "scipy-stubs"}  # they follow the packages that they describe


def requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group if not text.startswith("einthoven")]


def test_every_requirement_has_its_lowest_version() -> None:
    found = [Requirement(line) for line in lowest_versions()]
    assert {each.name for each in found} == {each.name for each in requirements()} - STUBS
    expected = {each.name: str(each.specifier).removeprefix(">=") for each in requirements()}
    assert all(str(each.specifier) == f"=={expected[each.name]}" for each in found)


@pytest.mark.parametrize("bound", ["torch<3", "torch", "torch>2", "torch>=2,<3"])
def test_a_requirement_without_a_lower_bound_is_refused(bound: str, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[project]\ndependencies = ["numpy>=1.26", "{bound}"]\n[project.optional-dependencies]\n')
    with pytest.raises(SystemExit, match=r"torch.*expected NAME>=VERSION"):
        lowest_versions(path)
