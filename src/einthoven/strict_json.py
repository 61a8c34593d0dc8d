"""Parse JSON that can be damaged or can come from a stranger."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from einthoven.errors import UserError

DEEPEST = 64
"""Largest number of nested lists and objects in a JSON file."""

_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def parse_json(text: bytes | str, source: str, *, finite: bool = True) -> Any:
    """Parse JSON. Refuse the same key twice in an object, and a nesting deeper than `DEEPEST`. `source` names the file.

    If `finite`, also NaN, infinity, and numbers that are too large, such as 1e999, are refused.
    """
    data = text.encode() if isinstance(text, str) else text
    _check_depth(data, source)
    options: dict[str, Any] = {"object_pairs_hook": _build_object}
    if finite:
        options["parse_constant"] = _refuse_constant
        options["parse_float"] = _parse_finite_number
    try:
        return json.loads(data, **options)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}: not the JSON that is expected ({' '.join(str(error).split())[:200]}).") from None


def _check_depth(data: bytes, source: str) -> None:
    """Count the nesting before parsing, because the parser is recursive. Brackets in strings do not count."""
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(data):
        if token[0] in (b"[", b"{"):
            depth += 1
        elif token[0] in (b"]", b"}"):
            depth -= 1
        if depth > DEEPEST:
            raise UserError(f"{source}: the JSON is nested more than {DEEPEST} deep.")


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"the key {name[:80]!r} occurs twice in one object")
        content[name] = value
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} instead of a number")


def _parse_finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:80]}, which is too large for a number")
    return number
