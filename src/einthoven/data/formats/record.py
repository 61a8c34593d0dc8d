"""`Record`: an ECG as every reader returns it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Record:
    """An ECG.

    Attributes
    ----------
    signal : ndarray of float32, shape (len(leads), T)
        Amplitudes in mV, in the order of `leads`; NaN where the file marks a sample as invalid.
    fs : float
        Sampling frequency in Hz.
    leads : tuple of str
        ``einthoven.functional.leads.LEADS``, unless the caller asked for other leads.
    source : str
        Name of the file without its folder and suffix.
    notes : tuple of str
        What the reader derived, dropped, inverted or renamed, and faults that it accepted.
    comments : tuple of str
        Comment lines of the header without ``#``, such as ``Dx: 426783006``. Other formats than WFDB have lines with
        the age and the sex that the file states.
    cautions : tuple of str
        The notes that a reader of a result has to know: parts of the file that are not in the record, and values that
        the reader changed.
    """

    signal: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
