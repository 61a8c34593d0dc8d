"""Diagnoses of the PhysioNet/CinC Challenges 2020 and 2021: SNOMED-CT codes -> classes of a label set.

``snomed.csv`` is the complete mapping, with one row per code of the challenge. Its last column gives the reason of each
choice. Names, abbreviations and scored classes are those of the challenge (Reyna et al. 2021; BSD 2-clause, see
LICENSES/). The columns `superdiagnostic` and `rhythm` are our own; they use the class names of PTB-XL.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from einthoven.errors import UserError

LABEL_SETS = ("cinc2021", "rhythm", "superdiagnostic")

TEXTS = MappingProxyType(
    {
        "NORMAL": "426783006",
        "AF": "164889003",
        "I-AVB": "270492004",
        "LBBB": "164909002",
        "RBBB": "59118001",
        "PAC": "284470004",
        "PVC": "164884008",
        "STD": "429622005",
        "STE": "164931005",
    }
)
"""The nine texts of the China Physiological Signal Challenge 2018, and their codes in the challenge."""

SCP = MappingProxyType(
    {
        "1AVB": "270492004",
        "2AVB": "195042002",
        "3AVB": "27885002",
        "AFIB": "164889003",
        "AFLT": "164890007",
        "AMI": "54329005",
        "BIGU": "11157007",
        "CLBBB": "164909002",
        "CRBBB": "59118001",
        "ILBBB": "251120003",
        "INVT": "59931005",
        "IRBBB": "713426002",
        "IVCD": "698252002",
        "LAFB": "445118002",
        "LAO/LAE": "67741000119109",
        "LNGQT": "111975006",
        "LPFB": "445211001",
        "LPR": "164947007",
        "LVH": "164873001",
        "LVOLT": "251146004",
        "NST_": "428750005",
        "PAC": "284470004",
        "PACE": "10370003",
        "PSVT": "67198005",
        "PVC": "427172004",
        "QWAVE": "164917005",
        "RAO/RAE": "446358003",
        "RVH": "89792004",
        "SARRH": "427393009",
        "SBRAD": "426177001",
        "SR": "426783006",
        "STACH": "427084000",
        "STD_": "429622005",
        "STE_": "164931005",
        "SVTAC": "426761007",
        "TAB_": "164934002",
        "TRIGU": "251180001",
        "WPW": "74390002",
    }
)
"""SCP-ECG statement -> code with the same meaning. Augmentations name the labels that they change as statements."""

_SINUS_RHYTHMS = frozenset({"426783006", "426177001", "427084000", "427393009"})
_NOTHING = frozenset({"", "UNKNOWN", "NAN"})


@dataclass(frozen=True)
class Diagnosis:
    """One row of ``snomed.csv``: the class of a code in each label set (empty: none), and the databases that use it."""

    name: str
    classes: MappingProxyType[str, str]
    annotated_by: frozenset[str]


@cache
def diagnoses() -> MappingProxyType[str, Diagnosis]:
    """Return every SNOMED-CT code of the challenge."""
    lines = (files("einthoven.data.sources") / "snomed.csv").read_text(encoding="utf-8").splitlines()
    by_code = {}
    for row in csv.DictReader(lines):
        by_code[row["code"]] = Diagnosis(
            name=row["name"],
            classes=MappingProxyType({name: row[name] for name in LABEL_SETS}),
            annotated_by=frozenset(row["annotated_by"].split()),
        )
    return MappingProxyType(by_code)


def parse_diagnoses(text: str, source: str) -> tuple[str, ...]:
    """Return the SNOMED-CT codes of a ``Dx`` line such as ``426783006,164934002`` or ``AF``.

    A code that is not in ``snomed.csv`` is returned, too. It belongs to no class.

    Raises
    ------
    UserError
        If an entry is neither a code nor one of the nine texts of CPSC 2018.
    """
    codes = []
    for entry in (part.strip() for part in text.split(",")):
        if entry.upper() in _NOTHING:
            continue
        code = entry if entry.isascii() and entry.isdigit() else TEXTS.get(entry.upper())
        if code is None:
            raise UserError(
                f"{source}: diagnosis {entry[:80]!r} is unknown; expected SNOMED-CT codes, or one of "
                f"{', '.join(TEXTS)} in any case."
            )
        codes.append(code)
    return tuple(dict.fromkeys(codes))


def classes_of(codes: tuple[str, ...], label_set: str) -> set[str]:
    """Return the classes of a label set for the codes of one record.

    The challenge has no code for a normal ECG. A record is ``NORM`` if all its codes are sinus rhythms, including fast,
    slow and irregular ones. All records of PTB-XL (folds 1 to 9) with such codes only are NORM.
    """
    by_code = diagnoses()
    classes = {by_code[code].classes[label_set] for code in codes if code in by_code} - {"", "NORM"}
    if label_set == "superdiagnostic" and codes and _SINUS_RHYTHMS.issuperset(codes):
        classes.add("NORM")
    return classes


def annotated(label_set: str, origin: str) -> frozenset[str]:
    """Return the classes of a label set whose codes the database `origin` uses.

    If a database never uses a class, a record without this class need not be negative. The challenge itself counts each
    scored class as negative if a record does not have it. So for ``cinc2021`` every database annotates all classes.
    """
    classes = set()
    for diagnosis in diagnoses().values():
        if label_set == "cinc2021" or origin in diagnosis.annotated_by:
            classes.add(diagnosis.classes[label_set])
    return frozenset(classes - {""})


def class_of_statement(label_set: str) -> dict[str, str]:
    """Return the class of a label set for each SCP-ECG statement that has one."""
    by_code = diagnoses()
    classes = {statement: by_code[code].classes[label_set] for statement, code in SCP.items()}
    return {statement: name for statement, name in classes.items() if name}
