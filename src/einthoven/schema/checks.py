"""Check the range of an option."""

from __future__ import annotations

from einthoven.errors import UserError

LARGEST = 3.4e38
"""Largest number of float32, rounded down."""


def require(condition: bool, key: str, value: object, expected: str) -> None:
    """Raise a `UserError` about an option if a condition on its value is false."""
    if not condition:
        raise UserError(f"{key}={value}: expected {expected}.")
