"""Groups of SCP-ECG statements whose criteria depend on the same property of the signal.

An augmentation that changes such a property can make these statements wrong. The criteria are those of Surawicz et al.
2009 and Hancock et al. 2009, "AHA/ACCF/HRS recommendations for the standardization and interpretation of the
electrocardiogram", parts III and V.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

VOLTAGE_STATEMENTS = frozenset(
    {"LVH", "RVH", "SEHYP", "VCLVH", "LAO/LAE", "RAO/RAE", "LVOLT", "HVOLT", "LOWT", "STD_", "STE_"}
)
"""Statements whose criteria are voltages."""

AXIS_STATEMENTS = frozenset({"LAFB", "LPFB", "RVH"})
"""Statements whose criteria use the electrical axis, that is, compare the limb leads."""

RATE_STATEMENTS = frozenset({"SBRAD", "STACH", "SVTAC", "PSVT", "AFLT"})
"""Statements whose criteria are a rate."""

INTERVAL_STATEMENTS = frozenset(
    {"1AVB", "LPR", "LNGQT", "IRBBB", "CRBBB", "ILBBB", "CLBBB", "IVCD", "WPW", "LAFB", "LPFB"}
)
"""Statements whose criteria are durations within a beat."""

EPISODE_STATEMENTS = frozenset({"PVC", "PAC", "PRC(S)", "BIGU", "TRIGU", "SARRH", "SVARR", "2AVB", "3AVB"})
"""Statements that can depend on a few beats of the record."""

SHAPE_STATEMENTS = frozenset({"ABQRS", "QWAVE", "INVT", "LOWT", "NDT", "NT_", "TAB_", "NST_", "STD_", "STE_"})
"""Statements about the sign or size of a wave, or about the ST level, in single leads."""

INFARCTION_STATEMENTS = frozenset(
    {"IMI", "ILMI", "IPMI", "IPLMI", "LMI", "PMI", "AMI", "ASMI", "ALMI", "INJAS", "INJAL", "INJIN", "INJIL", "INJLA"}
)
"""Statements that locate an infarction by the leads in which it appears."""

ISCHAEMIA_STATEMENTS = frozenset({"ISCAL", "ISCAN", "ISCAS", "ISCIL", "ISCIN", "ISCLA"})
"""Statements that locate ischaemia by the leads in which it appears."""


def changed_classes(
    changes: Iterable[str], classes: Iterable[str], class_of: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Find the classes of a task whose labels an augmentation can make wrong.

    Parameters
    ----------
    changes
        Statements that the augmentation can make wrong, as in its attribute ``changes``.
    classes
        Classes of the task.
    class_of
        Class of each statement, for example LVH -> HYP. A statement without an entry is a class of its own.

    Returns
    -------
    dict
        Class -> the statements of `changes` that belong to this class. Both are sorted.
    """
    task_classes = set(classes)
    statements_of_class: dict[str, list[str]] = {}
    for statement in sorted(changes):
        name = class_of.get(statement, statement)
        if name in task_classes:
            statements_of_class.setdefault(name, []).append(statement)
    return {name: tuple(statements_of_class[name]) for name in sorted(statements_of_class)}
