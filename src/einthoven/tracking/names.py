"""Names and scales of metrics in a store: those of earlier versions, and those of today."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

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
