"""DICOM 12-lead and general ECG waveforms through the pydicom package."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.data.formats.channels import shown
from einthoven.data.formats.file_signals import FileSignals, load
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import canonical_lead

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_LINEAR = ("SB", "UB", "SS", "US", "SL", "UL")  # the other sample interpretations are companded audio


def read_dicom(path: str | Path) -> FileSignals:
    """Read the recorded waveform of a DICOM file: the original multiplex group with the most leads.

    Groups that are derived, such as a median beat, are left out. Samples equal to the padding value are NaN.

    Raises
    ------
    UserError
        If the file is not DICOM, holds no waveform, or its samples are damaged or not calibrated.

    References
    ----------
    DICOM PS3.3, C.10.9, Waveform Module.
    """
    import pydicom

    source = Path(path).name
    data = load(path)
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
        if str(meta.get("TransferSyntaxUID", "")) == pydicom.uid.DeflatedExplicitVRLittleEndian:
            raise ValueError("a deflated data set, whose size is not known before it is unpacked")
        dataset = pydicom.dcmread(io.BytesIO(data))
        groups = list(dataset.get("WaveformSequence") or [])
        recorded = [k for k, group in enumerate(groups) if group.get("WaveformOriginality", "ORIGINAL") == "ORIGINAL"]
        if not recorded:
            kind = getattr(dataset.get("SOPClassUID"), "name", "an unknown kind")
            raise UserError(f"{source}: {shown(str(kind))} without a recorded waveform; expected a 12-lead ECG.")
        names = {k: [_name(channel) for channel in groups[k].ChannelDefinitionSequence] for k in recorded}
        chosen = max(recorded, key=lambda k: sum(canonical_lead(name) is not None for name in names[k]))
        signals = _group(dataset, chosen, tuple(names[chosen]), source)
    except UserError:
        raise
    except Exception as error:  # pydicom raises whatever struct, numpy or a missing element raised
        raise UserError(f"{source}: the pydicom package cannot read this file ({reason(error)}).") from None
    if len(recorded) == 1:
        return signals
    note = f"read waveform group {chosen + 1} of {len(groups)}"
    return FileSignals(signals.values, signals.names, signals.units, signals.fs, (*signals.notes, note))


def _group(dataset: Dataset, index: int, names: tuple[str, ...], source: str) -> FileSignals:
    from pydicom.waveforms.numpy_handler import multiplex_array

    group = dataset.WaveformSequence[index]
    if group.WaveformSampleInterpretation not in _LINEAR:
        raise UserError(
            f"{source}: samples of interpretation {shown(str(group.WaveformSampleInterpretation))}; "
            f"expected one of {' '.join(_LINEAR)}."
        )
    counts = multiplex_array(dataset, index, as_raw=True).T
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} channels defined, {len(counts)} stored")
    values, units = counts.astype(np.float64), []
    for row, name, channel in zip(values, names, group.ChannelDefinitionSequence, strict=True):
        if "ChannelSensitivity" not in channel or "ChannelSensitivityUnitsSequence" not in channel:
            raise UserError(f"{source}: lead {shown(name)} has no sensitivity; expected a calibrated waveform.")
        row *= float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor") or 1)
        row += float(channel.get("ChannelBaseline") or 0)
        units.append(str(channel.ChannelSensitivityUnitsSequence[0].CodeValue))
    if not np.isfinite(values).all():
        raise ValueError("a sensitivity that is not finite")
    if group.get("WaveformPaddingValue") is not None:
        values[counts == _padding(group.WaveformPaddingValue, counts.dtype)] = np.nan
    return FileSignals(values, names, tuple(units), float(group.SamplingFrequency))


def _name(channel: Dataset) -> str:
    """The first of the names of a channel that is one of a lead, else its label."""
    source: Any = channel.get("ChannelSourceSequence") or []
    names = [*(str(code.get("CodeMeaning", "")) for code in source[:1]), str(channel.get("ChannelLabel", ""))]
    return next((name for name in names if canonical_lead(name)), next(filter(None, names), "unnamed"))


def _padding(value: Any, dtype: np.dtype[Any]) -> int:
    """The padding value stands in the file as a sample does: as bytes."""
    return int(np.frombuffer(value[: dtype.itemsize], dtype)[0]) if isinstance(value, bytes) else int(value)
