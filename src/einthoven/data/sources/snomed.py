"""Diagnoses of the PhysioNet/CinC Challenges 2020 and 2021: SNOMED-CT codes -> classes of a label set.

``snomed.csv`` is the whole mapping, one row per code of the challenge, with the reason of each choice in its last
column. Names, abbreviations and scored classes are those of the challenge (Reyna et al. 2021; BSD 2-clause, see
LICENSES/); the columns `superdiagnostic` and `rhythm` are ours and speak PTB-XL's language.
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
"""The nine texts of the China Physiological Signal Challenge 2018, and the codes that the challenge gives them."""

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
"""SCP-ECG statement -> the code that says the same: what an augmentation changes is told in statements."""

_SINUS_RHYTHMS = frozenset({"426783006", "426177001", "427084000", "427393009"})
_NOTHING = frozenset({"", "UNKNOWN", "NAN"})


@dataclass(frozen=True)
class Diagnosis:
    """One row of ``snomed.csv``: the class of a code in each label set (empty: none), and who uses the code."""

    name: str
    classes: MappingProxyType[str, str]
    annotated_by: frozenset[str]


@cache
def diagnoses() -> MappingProxyType[str, Diagnosis]:
    """Every SNOMED-CT code of the challenge."""
    lines = (files("einthoven.data.sources") / "snomed.csv").read_text(encoding="utf-8").splitlines()
    return MappingProxyType(
        {
            row["code"]: Diagnosis(
                row["name"],
                MappingProxyType({name: row[name] for name in LABEL_SETS}),
                frozenset(row["annotated_by"].split()),
            )
            for row in csv.DictReader(lines)
        }
    )


def parse_diagnoses(text: str, source: str) -> tuple[str, ...]:
    """SNOMED-CT codes of a ``Dx`` line such as ``426783006,164934002`` or ``AF``.

    A code is kept whether ``snomed.csv`` knows it or not: it may then belong to no class.

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
    """Classes of a label set that the codes of one record state.

    ``NORM`` is where sinus rhythms (also fast, slow or irregular ones) are all that is stated: the challenge has no
    code for a normal ECG. Of the records of PTB-XL (folds 1 to 9) that state nothing but these, all are NORM.
    """
    known = diagnoses()
    found = {known[code].classes[label_set] for code in codes if code in known} - {"", "NORM"}
    if label_set == "superdiagnostic" and codes and _SINUS_RHYTHMS.issuperset(codes):
        found.add("NORM")
    return found


def annotated(label_set: str, origin: str) -> frozenset[str]:
    """Classes of a label set that the database `origin` uses a code of; in the others, absent does not mean negative.

    The challenge itself counts every scored class as negative where it is not stated: ``cinc2021`` has all of them.
    """
    return frozenset(
        d.classes[label_set] for d in diagnoses().values() if label_set == "cinc2021" or origin in d.annotated_by
    ) - {""}


def class_of_statement(label_set: str) -> dict[str, str]:
    """Class of a label set that each SCP-ECG statement stands for, as far as there is one."""
    known = diagnoses()
    return {name: known[code].classes[label_set] for name, code in SCP.items() if known[code].classes[label_set]}
