"""Writers of small ECG files in the formats that the package reads, from whole microvolts (leads, T)."""

from __future__ import annotations

import base64
from pathlib import Path

import edfio
import numpy as np
import pydicom

from einthoven.functional.leads import LEADS

EIGHT = ("I", "II", *LEADS[6:])
FS, SAMPLES = 500.0, 60


def write_edf(path: Path, ecg: np.ndarray, names: tuple[str, ...] = LEADS, unit: str = "uV", **more: object) -> None:
    # digital and physical ranges that make one count 1 µV or 1/1000 mV
    scale = {"uV": 1.0, "mV": 1000.0}[unit]
    signals = [
        edfio.EdfSignal.from_digital(
            row.astype(np.int16),
            FS,
            label=name,
            physical_dimension=unit,
            physical_range=(-8000 / scale, 8000 / scale),
            digital_range=(-8000, 8000),
        )
        for row, name in zip(ecg, names, strict=True)
    ]
    other = edfio.EdfSignal(np.linspace(0, 1, SAMPLES // 10), FS / 10, label="Resp", physical_dimension="V")
    edfio.Edf([*signals, other], data_record_duration=SAMPLES / FS, **more).write(path)


def dicom_file() -> Path:
    return Path(pydicom.data.get_testdata_file("waveform_ecg.dcm"))


def aecg(ecg: np.ndarray, names: tuple[str, ...] = LEADS, increment: str = "0.002") -> str:
    """HL7 V3 annotated ECG with one rhythm series; one digit is 0.5 µV, the origin 3 µV."""
    sequence = (
        "<component><sequence><code code='{code}'/><value xsi:type='{kind}'>{value}</value></sequence></component>"
    )
    time = f"<head value='20020101'/><increment value='{increment}' unit='s'/>"
    parts = [sequence.format(code="TIME_ABSOLUTE", kind="GLIST_TS", value=time)]
    for name, row in zip(names, ecg, strict=True):
        digits = " ".join(str(int(x)) for x in (row - 3) * 2)
        value = f"<origin value='3' unit='uV'/><scale value='0.5' unit='uV'/><digits>{digits}</digits>"
        parts.append(sequence.format(code=f"MDC_ECG_LEAD_{name.upper()}", kind="SLIST_PQ", value=value))
    return (
        "<?xml version='1.0' encoding='UTF-8'?><AnnotatedECG xmlns='urn:hl7-org:v3' "
        "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'><component><series><code code='RHYTHM'/>"
        f"<component><sequenceSet>{''.join(parts)}</sequenceSet></component></series></component></AnnotatedECG>"
    )


def muse(ecg: np.ndarray, names: tuple[str, ...] = EIGHT, unit: str = "MICROVOLTS") -> str:
    """GE MUSE export of eight leads, 5 µV a bit, base64 of int16."""
    leads = "".join(
        f"<LeadData><LeadID>{name}</LeadID><LeadAmplitudeUnitsPerBit>5</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>{unit}</LeadAmplitudeUnits>"
        f"<WaveFormData>{base64.b64encode(row.astype('<i2').tobytes()).decode()}</WaveFormData></LeadData>"
        for name, row in zip(names, ecg, strict=True)
    )
    wave = "<WaveformType>{}</WaveformType><SampleBase>500</SampleBase><SampleExponent>0</SampleExponent>"
    return (
        f"<RestingECG><Waveform>{wave.format('Median')}{leads}</Waveform>"
        f"<Waveform>{wave.format('Rhythm')}{leads}</Waveform></RestingECG>"
    )


def sierra(ecg: np.ndarray) -> str:
    """Philips resting ECG, not compressed: 12 leads one after the other, 5 µV a count."""
    data = base64.b64encode(ecg.astype("<i2").tobytes()).decode()
    return (
        "<restingecgdata><documentinfo><documenttype>SierraECG</documenttype><documentversion>1.03</documentversion>"
        "</documentinfo><dataacquisition><signalcharacteristics><samplingrate>500</samplingrate>"
        "<signalresolution>5</signalresolution><numberchannelsallocated>12</numberchannelsallocated>"
        "<acquisitiontype>STD-12</acquisitiontype></signalcharacteristics></dataacquisition><waveforms>"
        f"<parsedwaveforms dataencoding='Base64' durationperchannel='{ecg.shape[1] * 2}' numberofleads='12' "
        f"leadlabels='{' '.join(LEADS)}'>{data}</parsedwaveforms></waveforms></restingecgdata>"
    )
