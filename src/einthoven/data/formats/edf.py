"""Read EDF and EDF+ with the edfio package."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from einthoven.data.formats.channels import quote
from einthoven.data.formats.file_signals import FileSignals, read_ordinary_file, select_leads
from einthoven.errors import UserError
from einthoven.files import reason


def read_edf(path: str | Path) -> FileSignals:
    """Read the leads of an EDF or EDF+ file. Other signals are dropped; their rate and unit can differ.

    Raises
    ------
    UserError
        If the file is damaged, truncated or not continuous, or if its leads differ in sampling frequency.

    References
    ----------
    Kemp, Olivan 2003, "European data format 'plus' (EDF+)".
    """
    import edfio

    source = Path(path).name
    data = read_ordinary_file(path)
    try:
        # edfio warns about a truncated file, and about a range that cannot be scaled. Both are errors here.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            edf = edfio.read_edf(data, header_encoding="latin-1")
            is_continuous = edf.is_continuous
            names = tuple(signal.label for signal in edf.signals)
            columns, notes = select_leads(names)
            leads = [edf.signals[column] for column in columns]

            # The scaling divides by the ranges, so that they have to be finite.
            ranges = []
            for signal in leads:
                ranges.extend([np.diff(signal.physical_range), np.diff(signal.digital_range)])
            rates = {float(signal.sampling_frequency) for signal in leads}
            if not (np.isfinite(ranges).all() and np.isfinite([*rates]).all()):
                raise ValueError("a range or a sampling frequency that is not finite")
            values = [signal.data for signal in leads]
            units = tuple(signal.physical_dimension for signal in leads)
    # edfio has no exception of its own: int(), float(), NumPy and the warnings above raise theirs.
    except Exception as error:
        raise UserError(f"{source}: the edfio package cannot read this file ({reason(error)}).") from None

    if not is_continuous:
        raise UserError(f"{source}: a recording with interruptions (EDF+D); expected a continuous one.")
    if not leads:
        raise UserError(f"{source}: signals {quote(' '.join(names))} found; expected leads such as I, II, V1.")
    if len(rates) > 1:
        sorted_rates = ", ".join(f"{rate:g}" for rate in sorted(rates))
        raise UserError(f"{source}: leads at {sorted_rates} Hz; expected one rate.")
    return FileSignals(np.stack(values), tuple(names[column] for column in columns), units, rates.pop(), notes)
