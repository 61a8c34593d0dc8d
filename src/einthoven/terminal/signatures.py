"""The parameters of a function or class of this package, read from its source. Importing it would import torch."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

import einthoven

_PLAIN_DECORATORS = ("classmethod", "staticmethod")


def parameters_in_source(name: str) -> list[str] | None:
    """Return the parameters of a function or class with a dotted name, such as ``einthoven.models.mlp.MLP``.

    The result is None if the source does not show them: the name is of another package, or the object is imported from
    elsewhere, inherits its parameters, or has a decorator that can change them.
    """
    package, *steps = name.split(".")
    place = Path(einthoven.__file__).parent
    if package != einthoven.__name__:
        return None
    while steps and (place / steps[0]).is_dir():
        place /= steps.pop(0)
    file = (place / f"{steps.pop(0)}.py") if steps else place
    if not steps or not file.is_file():
        return None

    body: Sequence[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    node = _definition(body, steps[0])
    is_method = len(steps) > 1
    for step in steps[1:]:
        node = _definition(node.body, step) if node is not None else None
    if isinstance(node, ast.ClassDef):
        return _parameters_of_class(node)
    return _parameters_of_function(node, is_method=is_method) if node is not None else None


def _definition(body: Sequence[ast.stmt], name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """Return the class or function with a name; None if there is none."""
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return statement
    return None


def _parameters_of_class(node: ast.ClassDef) -> list[str] | None:
    """Return the parameters of a class: those of its ``__init__``, or the fields of a dataclass without a base."""
    decorators = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
    constructor = _definition(node.body, "__init__")
    if isinstance(constructor, ast.FunctionDef) and not decorators:
        return _parameters_of_function(constructor, is_method=True)
    if decorators != ["dataclass"] or node.bases or constructor is not None:
        return None
    fields = [statement for statement in node.body if isinstance(statement, ast.AnnAssign)]
    # A class variable is no parameter, and `field(init=False)` is none.
    if any("ClassVar" in ast.unparse(field.annotation) or "init=False" in ast.unparse(field) for field in fields):
        return None
    return [ast.unparse(field.target) for field in fields]


def _parameters_of_function(node: ast.ClassDef | ast.FunctionDef, *, is_method: bool) -> list[str] | None:
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    if not isinstance(node, ast.FunctionDef) or not set(decorators) <= set(_PLAIN_DECORATORS):
        return None
    arguments = node.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    # The object or the class is no parameter of a method.
    if is_method and "staticmethod" not in decorators:
        names = names[1:]
    if arguments.vararg is not None:
        names.append(arguments.vararg.arg)
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg is not None:
        names.append(arguments.kwarg.arg)
    return names
