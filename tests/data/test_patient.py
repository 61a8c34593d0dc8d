"""Age and sex in the files of each format."""

from __future__ import annotations

import struct
from xml.etree.ElementTree import fromstring

import pytest
from pydicom.dataset import Dataset

from einthoven.data.formats.patient import (
    of_aecg,
    of_dicom,
    of_mortara,
    of_muse,
    of_philips,
    of_scp,
    patient_comments,
)
from einthoven.predict.measuring import patient_of

MUSE = """<RestingECG><PatientDemographics><PatientLastName>DOE</PatientLastName><PatientAge>{age}</PatientAge>
<AgeUnits>{unit}</AgeUnits><DateofBirth>01-02-1950</DateofBirth><Gender>{sex}</Gender></PatientDemographics>
</RestingECG>"""
PHILIPS = """<restingecgdata><patient><generalpatientdata><name><lastname>Doe</lastname></name>
<age defaultage="50"><dateofbirth>1950-02-01</dateofbirth><years>63</years></age><sex>Female</sex>
</generalpatientdata></patient></restingecgdata>"""
AECG = """<AnnotatedECG><subjectDemographicPerson><name>JD</name><administrativeGenderCode code="F"/>
<birthTime value="19500201"/></subjectDemographicPerson></AnnotatedECG>"""
MORTARA = '<ECG AGE="63" AGE_UNITS="YEARS"><SUBJECT LAST_NAME="DOE" GENDER="Female" DOB="19500201"/></ECG>'
BOTH = ("Age: 63", "Sex: Female")


def dicom(age: str, sex: str) -> Dataset:
    dataset = Dataset()
    dataset.PatientName = "Doe^Jane"
    dataset.PatientBirthDate = "19500201"
    dataset.PatientAge = age
    dataset.PatientSex = sex
    return dataset


def scp(*fields: tuple[int, bytes]) -> memoryview:
    body = b"".join(struct.pack("<BH", tag, len(value)) + value for tag, value in fields)
    return memoryview(body + b"\xff\0\0")


def test_each_format_states_age_and_sex_and_nothing_else() -> None:
    assert of_dicom(dicom("063Y", "F")) == BOTH
    assert of_muse(fromstring(MUSE.format(age=63, unit="YEARS", sex="FEMALE"))) == BOTH
    assert of_philips(fromstring(PHILIPS)) == BOTH
    assert of_aecg(fromstring(AECG)) == BOTH[1:]
    assert of_mortara(fromstring(MORTARA)) == BOTH
    name = (0, b"Doe\0")
    assert of_scp(scp(name, (4, struct.pack("<HB", 63, 1)), (5, b"\x9e\x07\x02\x01"), (8, b"\x02"))) == BOTH
    patient = patient_of(BOTH)
    assert (patient.age, patient.sex) == (63, "female")


def test_units_of_age() -> None:
    assert of_dicom(dicom("006M", "O")) == ("Age: 0.5",)
    assert of_muse(fromstring(MUSE.format(age=18, unit="MONTHS", sex=""))) == ("Age: 1.5",)
    assert of_scp(scp((4, struct.pack("<HB", 24, 2)))) == ("Age: 2",)


@pytest.mark.parametrize(
    ("age", "unit"), [("", "years"), ("-3", "years"), ("900", "years"), ("63", "moons"), ("1e9", "days")]
)
def test_what_is_missing_or_implausible_is_left_out(age: str, unit: str) -> None:
    assert patient_comments(age, unit, "?") == ()


def test_files_without_a_patient() -> None:
    assert of_dicom(Dataset()) == of_scp(None) == of_scp(memoryview(b"\x04\x03")) == ()
    assert of_scp(scp((4, b"\0\0\0"), (8, b"\0"))) == ()
    for reader in (of_aecg, of_mortara, of_muse, of_philips):
        assert reader(fromstring("<a/>")) == ()
