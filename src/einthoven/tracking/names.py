"""Names and scales of metrics in a store: of earlier versions, of today, and such that MLflow takes them."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Mapping
from types import MappingProxyType

LONGEST = 250
"""Characters in the name of a metric, a parameter or a tag."""

_TAKEN = re.compile(r"[/\w.\- :]+")  # by MLflow, in a name
_DIGITS = 12  # of a hash

OLD_GROUPS = MappingProxyType(
    {group: f"watch/{group}" for group in ("act/", "diag/", "grad/", "optim/", "pca/", "update/", "weight/")}
)
"""First part of a name up to version 0.1 -> the same today."""

OLD_SUMS = frozenset(
    f"diag/{name}" for name in ("entropy", "entropy_labels", "kl_labels", "kl_prior", "kl_drift", "kl_windows")
)
"""Names, up to version 0.1, of what was a sum over the classes of several labels and is their mean today."""


def current(name: str) -> str:
    """The name that a stored metric has today; the same name, if it never had another one.

    Parameters
    ----------
    name : str
        As any version wrote it, such as ``grad/norm``.
    """
    group, slash, rest = name.partition("/")
    return OLD_GROUPS.get(group + slash, group + slash) + rest


def classes_summed(name: str, params: Mapping[str, str]) -> int:
    """The number of classes that a stored metric was summed over; 1 if its scale is that of today.

    Parameters
    ----------
    name : str
        As any version wrote it.
    params : mapping
        The parameters of the run.
    """
    if name not in OLD_SUMS:
        return 1
    single_label = params.get("task.single_label", "").lower() == "true"
    if single_label and name != "diag/kl_prior":
        return 1
    return int(params.get("data.classes", 1))


def accepted(name: str) -> str:
    """The name, or one in its place that MLflow takes, and that no other name gets.

    The parts of this package give names that MLflow takes. A task or a measure of somebody else may give any other.

    Parameters
    ----------
    name : str
        Of a metric, a parameter or a tag.
    """
    is_path = posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."
    if is_path and len(name) <= LONGEST and _TAKEN.fullmatch(name):
        return name
    parts = [re.sub(r"[^\w\-]", "_", part) for part in name.split("/") if part]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    beginning = "/".join(parts)[: LONGEST - 1 - _DIGITS].rstrip("/")
    return f"{beginning}-{digest}"
