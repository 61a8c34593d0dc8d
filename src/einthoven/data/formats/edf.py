"""EDF and EDF+ through the edfio package."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from einthoven.data.formats.channels import shown
from einthoven.data.formats.file_signals import FileSignals, leads_alone, load
from einthoven.errors import UserError
from einthoven.files import reason


def read_edf(path: str | Path) -> FileSignals:
    """Read the signals of an EDF or EDF+ file that are named as a lead; the others may differ in rate and unit.

    Raises
    ------
    UserError
        If the file is damaged, truncated or not continuous, or its leads differ in sampling frequency.

    References
    ----------
    Kemp, Olivan 2003, "European data format 'plus' (EDF+)".
    """
    import edfio

    source = Path(path).name
    data = load(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of truncation, and of a range that cannot be scaled
            edf = edfio.read_edf(data, header_encoding="latin-1")
            continuous = edf.is_continuous
            names = tuple(signal.label for signal in edf.signals)
            keep, notes = leads_alone(names)
            leads = [edf.signals[column] for column in keep]
            ranges = [np.diff([*signal.physical_range, *signal.digital_range])[[0, 2]] for signal in leads]
            rates = {float(signal.sampling_frequency) for signal in leads}
            if not (np.isfinite(ranges).all() and np.isfinite([*rates]).all()):
                raise ValueError("a range or a sampling frequency that is not finite")
            values = [signal.data for signal in leads]
            units = tuple(signal.physical_dimension for signal in leads)
    except Exception as error:  # edfio raises whatever int(), float(), numpy or the warning above raised
        raise UserError(f"{source}: the edfio package cannot read this file ({reason(error)}).") from None
    if not continuous:
        raise UserError(f"{source}: a recording with interruptions (EDF+D); expected a continuous one.")
    if not leads:
        raise UserError(f"{source}: signals {shown(' '.join(names))} found; expected leads such as I, II, V1.")
    if len(rates) > 1:
        raise UserError(f"{source}: leads at {', '.join(f'{rate:g}' for rate in sorted(rates))} Hz; expected one rate.")
    return FileSignals(np.stack(values), tuple(names[column] for column in keep), units, rates.pop(), notes)
