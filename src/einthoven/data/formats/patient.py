"""Age and sex of the patient, as comment lines like those of WFDB headers. Names and dates of birth are not read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from einthoven.data.formats.xml_tree import attribute, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from pydicom.dataset import Dataset

_PER_YEAR = {"years": 1.0, "months": 12.0, "weeks": 52.18, "days": 365.25, "hours": 8766.0}

_DICOM_UNITS = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}
_SCP_UNITS = {1: "years", 2: "months", 3: "weeks", 4: "days", 5: "hours"}

# Words and codes for the sex in DICOM, MUSE, Philips and aECG files.
_SEXES = {"m": "Male", "male": "Male", "f": "Female", "female": "Female"}
_SCP_SEXES = {1: "male", 2: "female"}

# Tags of section 1 of SCP-ECG.
_SCP_AGE = 4
_SCP_SEX = 8
_SCP_END = 255

_OLDEST = 130.0


def patient_comments(age: str = "", unit: str = "years", sex: str = "") -> tuple[str, ...]:
    """Return comment lines such as ``Age: 63`` and ``Sex: Female``. What is missing or implausible has no line.

    Parameters
    ----------
    age : str
        A number.
    unit : str
        Of the age, in any case: years, months, weeks, days or hours.
    sex : str
    """
    comments = []
    factor = _PER_YEAR.get(unit.strip().lower())
    if factor is not None and re.fullmatch(r"\d{1,6}(\.\d+)?", age.strip()):
        years = float(age) / factor
        if years <= _OLDEST:
            comments.append(f"Age: {years:.3g}")
    word = _SEXES.get(sex.strip().lower())
    if word is not None:
        comments.append(f"Sex: {word}")
    return tuple(comments)


def of_dicom(dataset: Dataset) -> tuple[str, ...]:
    """Return the comments of a DICOM file: Patient's Age (such as ``063Y``) and Patient's Sex (PS3.3, C.7)."""
    age = str(dataset.get("PatientAge") or "").strip(" \0")
    unit = _DICOM_UNITS.get(age[-1:].upper(), "")
    return patient_comments(age[:-1], unit, str(dataset.get("PatientSex") or "").strip(" \0"))


def of_muse(root: Element) -> tuple[str, ...]:
    """Return the comments of a GE MUSE export."""
    demographics = root.find("PatientDemographics")
    texts = _texts(demographics, {"age": "PatientAge", "unit": "AgeUnits", "sex": "Gender"})
    return patient_comments(texts["age"], texts["unit"], texts["sex"])


def of_philips(root: Element) -> tuple[str, ...]:
    """Return the comments of a Philips export."""
    patient = root.find("patient/generalpatientdata")
    texts = _texts(patient, {"age": "age/years", "sex": "sex"})
    return patient_comments(texts["age"], sex=texts["sex"])


def of_aecg(root: Element) -> tuple[str, ...]:
    """Return the comments of an annotated ECG. It states a date of birth, and no age."""
    return patient_comments(sex=attribute(next(root.iter("administrativeGenderCode"), None), "code"))


def of_mortara(root: Element) -> tuple[str, ...]:
    """Return the comments of a Mortara ELI export."""
    unit = attribute(root, "AGE_UNITS") or "years"
    return patient_comments(attribute(root, "AGE"), unit, attribute(root.find("SUBJECT"), "GENDER"))


def of_scp(section: memoryview | None) -> tuple[str, ...]:
    """Return the comments of an SCP-ECG file from its section 1. A field is a tag, a length and a value."""
    age = ""
    unit = ""
    sex = ""
    data = bytes(section or b"")
    position = 0
    while position + 3 <= len(data) and data[position] != _SCP_END:
        tag = data[position]
        length = int.from_bytes(data[position + 1 : position + 3], "little")
        value = data[position + 3 : position + 3 + length]
        if tag == _SCP_AGE and len(value) == 3:
            # Zero is an age that is not known.
            age = str(int.from_bytes(value[:2], "little") or "")
            unit = _SCP_UNITS.get(value[2], "")
        elif tag == _SCP_SEX and len(value) == 1:
            sex = _SCP_SEXES.get(value[0], "")
        position += 3 + length
    return patient_comments(age, unit, sex)


def _texts(element: Element | None, paths: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of some children of an element; empty where there is none."""
    if element is None:
        return dict.fromkeys(paths, "")
    return {name: text_of(element.find(path)) for name, path in paths.items()}
