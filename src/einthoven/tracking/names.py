"""Names of metrics in a store: those of earlier versions, and those of today."""

from __future__ import annotations

from types import MappingProxyType

OLD_GROUPS = MappingProxyType(
    {group: f"watch/{group}" for group in ("act/", "diag/", "grad/", "optim/", "pca/", "update/", "weight/")}
)
"""First part of a name up to version 0.1 -> the same today."""


def current(name: str) -> str:
    """The name that a stored metric has today; the same name, if it never had another one.

    Parameters
    ----------
    name : str
        As any version wrote it, such as ``grad/norm``.
    """
    group, slash, rest = name.partition("/")
    return OLD_GROUPS.get(group + slash, group + slash) + rest
