"""Names and scales of metrics in a store: those of earlier versions, the current ones, and names that MLflow takes."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from types import MappingProxyType

LONGEST = 250
"""Longest name of a metric, a parameter or a tag, in characters."""

_ACCEPTED_CHARACTERS = re.compile(r"[/\w.\- :]+")
_HASH_DIGITS = 12

OLD_GROUPS = MappingProxyType(
    {group: f"watch/{group}" for group in ("act/", "diag/", "grad/", "optim/", "pca/", "update/", "weight/")}
)
"""First part of a name up to version 0.1 -> its current first part."""

OLD_SUMS = frozenset(
    f"diag/{name}" for name in ("entropy", "entropy_labels", "kl_labels", "kl_prior", "kl_drift", "kl_windows")
)
"""Metrics that were a sum over the classes of a multi-label task up to version 0.1. They are a mean over them now."""


def current(name: str) -> str:
    """Return the current name of a stored metric, whichever version wrote it, such as ``grad/norm``."""
    first, slash, rest = name.partition("/")
    group = first + slash
    return OLD_GROUPS.get(group, group) + rest


def classes_summed(name: str, params: Mapping[str, str]) -> int:
    """Return the number of classes that a stored metric was summed over; 1 if it has the current scale."""
    if name not in OLD_SUMS:
        return 1
    single_label = params.get("task.single_label", "").lower() == "true"
    if single_label and name != "diag/kl_prior":
        return 1
    return int(params.get("data.classes", 1))


def accepted(name: str) -> str:
    """Return the name of a metric, parameter or tag if MLflow takes it, and otherwise one that no other name gets.

    The parts of this package use names that MLflow takes. A task or an analysis of a user may use any name.
    """
    is_path = posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
    if is_path and len(name) <= LONGEST and _ACCEPTED_CHARACTERS.fullmatch(name):
        return name
    parts = [re.sub(r"[^\w\-]", "_", part) for part in name.split("/") if part]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    beginning = "/".join(parts)[: LONGEST - 1 - _HASH_DIGITS].rstrip("/")
    return f"{beginning}-{digest}"
