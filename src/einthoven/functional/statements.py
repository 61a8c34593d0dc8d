"""Which SCP-ECG statements depend on what an augmentation changes.

Criteria as in Surawicz et al. 2009 and Hancock et al. 2009, "AHA/ACCF/HRS recommendations for the
standardization and interpretation of the electrocardiogram", parts III and V.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

VOLTAGE_STATEMENTS = frozenset(
    {"LVH", "RVH", "SEHYP", "VCLVH", "LAO/LAE", "RAO/RAE", "LVOLT", "HVOLT", "LOWT", "STD_", "STE_"}
)
"""Statements whose criteria are voltages."""

AXIS_STATEMENTS = frozenset({"LAFB", "LPFB", "RVH"})
"""Statements whose criteria compare the limb leads: the electrical axis."""

RATE_STATEMENTS = frozenset({"SBRAD", "STACH", "SVTAC", "PSVT", "AFLT"})
"""Statements whose criteria are a rate."""

INTERVAL_STATEMENTS = frozenset(
    {"1AVB", "LPR", "LNGQT", "IRBBB", "CRBBB", "ILBBB", "CLBBB", "IVCD", "WPW", "LAFB", "LPFB"}
)
"""Statements whose criteria are durations within a beat."""

EPISODE_STATEMENTS = frozenset({"PVC", "PAC", "PRC(S)", "BIGU", "TRIGU", "SARRH", "SVARR", "2AVB", "3AVB"})
"""Statements that a few beats may decide."""

SHAPE_STATEMENTS = frozenset({"ABQRS", "QWAVE", "INVT", "LOWT", "NDT", "NT_", "TAB_", "NST_", "STD_", "STE_"})
"""Statements about the sign and size of a wave, or the level of ST, in single leads."""

INFARCTION_STATEMENTS = frozenset(
    {"IMI", "ILMI", "IPMI", "IPLMI", "LMI", "PMI", "AMI", "ASMI", "ALMI", "INJAS", "INJAL", "INJIN", "INJIL", "INJLA"}
)
"""Statements that name the place of an infarction by the leads that show it."""

ISCHAEMIA_STATEMENTS = frozenset({"ISCAL", "ISCAN", "ISCAS", "ISCIL", "ISCIN", "ISCLA"})
"""Statements that name the leads that show ischaemia."""


def changed_classes(
    changes: Iterable[str], classes: Iterable[str], class_of: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Which classes of a task an augmentation can make true or false, and through which statements.

    Parameters
    ----------
    changes
        Statements, as in the ``changes`` of an augmentation.
    classes
        Classes of the task.
    class_of
        Class of each statement, as LVH -> HYP; a statement that is not named there is a class by itself.

    Returns
    -------
    dict
        Class -> its statements among `changes`, both sorted.
    """
    there = set(classes)
    found: dict[str, list[str]] = {}
    for statement in sorted(changes):
        name = class_of.get(statement, statement)
        if name in there:
            found.setdefault(name, []).append(statement)
    return {name: tuple(found[name]) for name in sorted(found)}
