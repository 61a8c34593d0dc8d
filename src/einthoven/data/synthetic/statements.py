"""The SCP-ECG statements that the generator can produce, with their classes in PTB-XL."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Statement:
    """One SCP-ECG statement."""

    description: str
    kinds: str
    """Letters of its kinds: d = diagnostic, f = form, r = rhythm."""
    superclass: str = ""
    subclass: str = ""


SUPERCLASSES = {
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
    "MI": "myocardial infarction",
    "NORM": "normal ECG",
    "STTC": "change of ST and T",
}
"""Superclasses of PTB-XL, and what they mean."""


def _diagnostic(description: str, superclass: str, subclass: str, kinds: str = "d") -> Statement:
    return Statement(description, kinds, superclass, subclass)


STATEMENTS: dict[str, Statement] = {
    "NORM": _diagnostic("normal ECG", "NORM", "NORM"),
    "IMI": _diagnostic("inferior myocardial infarction", "MI", "IMI"),
    "ILMI": _diagnostic("inferolateral myocardial infarction", "MI", "IMI"),
    "IPMI": _diagnostic("inferoposterior myocardial infarction", "MI", "IMI"),
    "IPLMI": _diagnostic("inferoposterolateral myocardial infarction", "MI", "IMI"),
    "ASMI": _diagnostic("anteroseptal myocardial infarction", "MI", "AMI"),
    "AMI": _diagnostic("anterior myocardial infarction", "MI", "AMI"),
    "ALMI": _diagnostic("anterolateral myocardial infarction", "MI", "AMI"),
    "INJAS": _diagnostic("subendocardial injury in anteroseptal leads", "MI", "AMI"),
    "INJAL": _diagnostic("subendocardial injury in anterolateral leads", "MI", "AMI"),
    "INJIN": _diagnostic("subendocardial injury in inferior leads", "MI", "IMI"),
    "LMI": _diagnostic("lateral myocardial infarction", "MI", "LMI"),
    "PMI": _diagnostic("posterior myocardial infarction", "MI", "PMI"),
    "NDT": _diagnostic("non-diagnostic T abnormalities", "STTC", "STTC", "df"),
    "NST_": _diagnostic("non-specific ST changes", "STTC", "NST_", "df"),
    "DIG": _diagnostic("digitalis-effect", "STTC", "STTC", "df"),
    "LNGQT": _diagnostic("long QT-interval", "STTC", "STTC", "df"),
    "EL": _diagnostic("electrolytic disturbance or drug (former EDIS)", "STTC", "STTC"),
    "ANEUR": _diagnostic("ST-T changes compatible with ventricular aneurysm", "STTC", "STTC"),
    "ISC_": _diagnostic("non-specific ischemic", "STTC", "ISC_"),
    "ISCAL": _diagnostic("ischemic in anterolateral leads", "STTC", "ISCA"),
    "ISCAS": _diagnostic("ischemic in anteroseptal leads", "STTC", "ISCA"),
    "ISCAN": _diagnostic("ischemic in anterior leads", "STTC", "ISCA"),
    "ISCLA": _diagnostic("ischemic in lateral leads", "STTC", "ISCA"),
    "ISCIN": _diagnostic("ischemic in inferior leads", "STTC", "ISCI"),
    "ISCIL": _diagnostic("ischemic in inferolateral leads", "STTC", "ISCI"),
    "LAFB": _diagnostic("left anterior fascicular block", "CD", "LAFB/LPFB"),
    "LPFB": _diagnostic("left posterior fascicular block", "CD", "LAFB/LPFB"),
    "IRBBB": _diagnostic("incomplete right bundle branch block", "CD", "IRBBB"),
    "CRBBB": _diagnostic("(complete) right bundle branch block", "CD", "CRBBB"),
    "ILBBB": _diagnostic("incomplete left bundle branch block", "CD", "ILBBB"),
    "CLBBB": _diagnostic("(complete) left bundle branch block", "CD", "CLBBB"),
    "IVCD": _diagnostic("non-specific intraventricular conduction disturbance (block)", "CD", "IVCD"),
    "1AVB": _diagnostic("first degree AV block", "CD", "_AVB"),
    "WPW": _diagnostic("Wolff-Parkinson-White syndrome", "CD", "WPW"),
    "LVH": _diagnostic("left ventricular hypertrophy", "HYP", "LVH"),
    "RVH": _diagnostic("right ventricular hypertrophy", "HYP", "RVH"),
    "LAO/LAE": _diagnostic("left atrial overload/enlargement", "HYP", "LAO/LAE"),
    "RAO/RAE": _diagnostic("right atrial overload/enlargement", "HYP", "RAO/RAE"),
    "ABQRS": Statement("abnormal QRS", "f"),
    "QWAVE": Statement("Q waves present", "f"),
    "VCLVH": Statement("voltage criteria (QRS) for left ventricular hypertrophy", "f"),
    "LVOLT": Statement("low QRS voltages in the frontal and horizontal leads", "f"),
    "HVOLT": Statement("high QRS voltage", "f"),
    "STD_": Statement("non-specific ST depression", "f"),
    "STE_": Statement("non-specific ST elevation", "f"),
    "LOWT": Statement("low amplitude T-waves", "f"),
    "NT_": Statement("non-specific T-wave changes", "f"),
    "INVT": Statement("inverted T-waves", "f"),
    "LPR": Statement("prolonged PR interval", "f"),
    "PVC": Statement("ventricular premature complex", "f"),
    "PAC": Statement("atrial premature complex", "f"),
    "SR": Statement("sinus rhythm", "r"),
    "SBRAD": Statement("sinus bradycardia", "r"),
    "STACH": Statement("sinus tachycardia", "r"),
    "SARRH": Statement("sinus arrhythmia", "r"),
    "AFIB": Statement("atrial fibrillation", "r"),
    "AFLT": Statement("atrial flutter", "r"),
    "PACE": Statement("normal functioning artificial pacemaker", "r"),
    "BIGU": Statement("bigeminal pattern (unknown origin, SV or Ventricular)", "r"),
}

# Columns of `scp_statements.csv`. The first one, the code, has no name.
COLUMNS = (
    "",
    "description",
    "diagnostic",
    "form",
    "rhythm",
    "diagnostic_class",
    "diagnostic_subclass",
    "Statement Category",
    "SCP-ECG Statement Description",
    "AHA code",
    "aECG REFID",
    "CDISC Code",
    "DICOM Code",
)


def statement_rows() -> list[list[str]]:
    """Return the rows of `scp_statements.csv` in the official columns. The codes of other systems are empty."""
    rows = []
    for code, statement in STATEMENTS.items():
        flags = ["1.0" if kind in statement.kinds else "" for kind in "dfr"]
        classes = [statement.superclass, statement.subclass]
        rows.append([code, statement.description, *flags, *classes, "", statement.description, "", "", "", ""])
    return rows
