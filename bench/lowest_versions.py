"""Print the lowest versions that pyproject.toml allows, a line each: constraints for `pip install -c`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
BOUND = re.compile(r"([\w.-]+)>=([\w.]+)")
FREE = re.compile(r"einthoven\[.*\]|[\w-]+-stubs")  # extras of our own, and types that follow their package


def lowest_versions(pyproject: Path = PYPROJECT) -> list[str]:
    """``name==version`` for each requirement, those of the extras included."""
    project = tomllib.loads(pyproject.read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        requirements += extra
    constraints = []
    for requirement in requirements:
        if FREE.fullmatch(requirement):
            continue
        bound = BOUND.fullmatch(requirement)
        if bound is None:
            raise SystemExit(f"{pyproject.name}: {requirement} found; expected NAME>=VERSION.")
        constraints.append(f"{bound[1]}=={bound[2]}")
    return constraints


if __name__ == "__main__":
    print("\n".join(lowest_versions()))
