"""Pages of the Python API: one for each package, with the docstrings of its functions and classes."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

SRC = Path(__file__).resolve().parents[1] / "src"
PACKAGE = SRC / "einthoven"

WITHOUT_PAGE = {"app", "assets", "commands", "runs", "sweeps", "terminal", "tracking"}
"""Packages that are called by the command line only. Their functions are no API."""


def write_api_pages(folder: Path) -> None:
    """Write a page for each package, and an index."""
    folder.mkdir(parents=True)
    lines = [
        "# Python API",
        "",
        "Most users need two functions: `einthoven.data.read_record` reads a file, and `einthoven.predict.load_bundle`",
        "loads a model ([example](../prediction.md)).",
        "The other packages hold the parts of a training. Each function can be used alone.",
        "",
        "| package | what it does |",
        "|---|---|",
    ]
    for package in packages():
        (folder / f"{package}.md").write_text(package_page(package))
        purpose = first_sentence(package_folder(package) / "__init__.py")
        lines.append(f"| [`einthoven.{package}`]({package}.md) | {purpose} |")
    (folder / "index.md").write_text("\n".join(lines) + "\n")


def package_folder(package: str) -> Path:
    """Return the folder of a package, such as ``data.formats``."""
    return PACKAGE.joinpath(*package.split("."))


@cache
def packages() -> tuple[str, ...]:
    """Return the packages that have a page, such as ``data.formats``."""
    folders = [file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("__init__.py")]
    names = [".".join(folder.parts) for folder in folders if folder.parts and folder.parts[0] not in WITHOUT_PAGE]
    return tuple(sorted(names))


def modules(package: str) -> list[Path]:
    """Return the modules of a package that have public functions or classes with a docstring."""
    files = [file for file in sorted(package_folder(package).glob("*.py")) if not file.name.startswith("_")]
    return [file for file in files if public_names(file)]


@cache
def public_names(file: Path) -> tuple[str, ...]:
    """Return the public functions, classes and methods of a module that have a docstring."""
    names = []
    for node in ast.parse(file.read_text()).body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            continue
        names.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [child for child in node.body if isinstance(child, ast.FunctionDef)]
            names += [f"{node.name}.{child.name}" for child in methods if ast.get_docstring(child) is not None]
    return tuple(names)


def package_page(package: str) -> str:
    """Return the page of a package."""
    lines = [f"# einthoven.{package}", "", first_sentence(package_folder(package) / "__init__.py"), ""]
    for file in modules(package):
        name = f"einthoven.{package}.{file.stem}"
        lines += [f"## {file.stem} {{ #{name} }}", "", f"`{name}`: {first_sentence(file)}", ""]
        for function in public_names(file):
            if "." not in function:
                lines += [f"::: {name}.{function}", ""]
    return "\n".join(lines)


def first_sentence(file: Path) -> str:
    """Return the first paragraph of the docstring of a module, in one line."""
    docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split())


@dataclass(frozen=True)
class Anchors:
    """Where the code of the package is in the site."""

    folder: str = field(default="api")

    def place(self, file: str, function: str) -> str | None:
        """Return the place of a module, or of a function in it; None if it has no page.

        Parameters
        ----------
        file : str
            Path in the repository, such as ``src/einthoven/models/mlp.py``.
        function : str
            Name of a function, class or method. ``""``: the module.
        """
        path = Path(file).relative_to("src/einthoven")
        package = ".".join(path.parent.parts)
        if package not in packages() or not public_names(PACKAGE / path):
            return None
        name = f"einthoven.{package}.{path.stem}"
        if function in public_names(PACKAGE / path):
            name = f"{name}.{function}"
        return f"{self.folder}/{package}.md#{name}"


ANCHORS = Anchors()
