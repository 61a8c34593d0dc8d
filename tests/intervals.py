"""Intervals of the diagnostics, for tests that measure some of them."""

from __future__ import annotations

from dataclasses import fields

from einthoven.schema import Diagnostics


def intervals(**every: int | None) -> Diagnostics:
    """Those named, and never the others."""
    never = dict.fromkeys(f.name for f in fields(Diagnostics))
    return Diagnostics(**{**never, "landscape": False, "probe_records": 1, **every})  # type: ignore[arg-type]
