"""Read DICOM 12-lead and general ECG waveforms with the pydicom package."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import FileSignals, read_ordinary_file
from einthoven.errors import UserError
from einthoven.files import reason
from einthoven.functional.leads import canonical_lead

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Interpretations of the samples as linear integers. The other interpretations are companded audio.
_LINEAR = ("SB", "UB", "SS", "US", "SL", "UL")


def read_dicom(path: str | Path) -> FileSignals:
    """Read the recorded waveform of a DICOM file: the original multiplex group with the most leads.

    Derived groups, such as a median beat, are ignored. Samples equal to the padding value become NaN.

    Raises
    ------
    UserError
        If the file is not DICOM or contains no waveform, or if its samples are damaged or not calibrated.

    References
    ----------
    DICOM PS3.3, C.10.9, Waveform Module.
    """
    import pydicom

    source = Path(path).name
    data = read_ordinary_file(path)
    try:
        # A deflated file could expand to any size.
        meta = pydicom.filereader.read_file_meta_info(path)
        if str(meta.get("TransferSyntaxUID", "")) == pydicom.uid.DeflatedExplicitVRLittleEndian:
            raise ValueError("a deflated data set, whose size is not known before it is unpacked")
        dataset = pydicom.dcmread(io.BytesIO(data))

        groups = list(dataset.get("WaveformSequence") or [])
        originals = [
            index for index, group in enumerate(groups) if group.get("WaveformOriginality", "ORIGINAL") == "ORIGINAL"
        ]
        if not originals:
            kind = getattr(dataset.get("SOPClassUID"), "name", "an unknown kind")
            raise UserError(f"{source}: {quote(str(kind))} without a recorded waveform; expected a 12-lead ECG.")

        # Choose the group with the most leads; the first one of them, if several have as many.
        names = {}
        lead_counts = {}
        for index in originals:
            names[index] = [_channel_name(channel) for channel in groups[index].ChannelDefinitionSequence]
            lead_counts[index] = sum(canonical_lead(name) is not None for name in names[index])
        chosen = max(originals, key=lambda index: lead_counts[index])
        notes = () if len(originals) == 1 else (f"read waveform group {chosen + 1} of {len(groups)}",)
        return _read_group(dataset, chosen, tuple(names[chosen]), notes, source)
    except UserError:
        raise
    # pydicom raises the exceptions of struct and NumPy, and others for missing elements.
    except Exception as error:
        raise UserError(f"{source}: the pydicom package cannot read this file ({reason(error)}).") from None


def _read_group(
    dataset: Dataset, index: int, names: tuple[str, ...], notes: tuple[str, ...], source: str
) -> FileSignals:
    """Read one multiplex group as FileSignals, in the units that its channels state."""
    from pydicom.waveforms.numpy_handler import multiplex_array

    group = dataset.WaveformSequence[index]
    if group.WaveformSampleInterpretation not in _LINEAR:
        raise UserError(
            f"{source}: samples of interpretation {quote(str(group.WaveformSampleInterpretation))}; "
            f"expected one of {' '.join(_LINEAR)}."
        )
    counts = multiplex_array(dataset, index, as_raw=True).T
    if len(names) != len(counts):
        raise ValueError(f"{len(names)} channels defined, {len(counts)} stored")

    # Amplitude = count * sensitivity * correction factor + baseline.
    values = counts.astype(np.float64)
    units = []
    for row, name, channel in zip(values, names, group.ChannelDefinitionSequence, strict=True):
        if "ChannelSensitivity" not in channel or "ChannelSensitivityUnitsSequence" not in channel:
            raise UserError(f"{source}: lead {quote(name)} has no sensitivity; expected a calibrated waveform.")
        row *= float(channel.ChannelSensitivity) * float(channel.get("ChannelSensitivityCorrectionFactor") or 1)
        row += float(channel.get("ChannelBaseline") or 0)
        units.append(str(channel.ChannelSensitivityUnitsSequence[0].CodeValue))
    if not np.isfinite(values).all():
        raise ValueError("a sensitivity that is not finite")

    # The padding value is stored as the bytes of a sample, or as a number.
    padding = group.get("WaveformPaddingValue")
    if padding is not None:
        if isinstance(padding, bytes):
            padding = np.frombuffer(padding[: counts.dtype.itemsize], counts.dtype)[0]
        values[counts == int(padding)] = np.nan
    return FileSignals(values, names, tuple(units), float(group.SamplingFrequency), notes)


def _channel_name(channel: Dataset) -> str:
    """Return the source or the label of a channel, whichever is the name of a lead."""
    sources: Any = channel.get("ChannelSourceSequence") or []
    names = [str(code.get("CodeMeaning", "")) for code in sources[:1]]
    names.append(str(channel.get("ChannelLabel", "")))
    for name in names:
        if canonical_lead(name):
            return name
    return next(filter(None, names), "unnamed")
