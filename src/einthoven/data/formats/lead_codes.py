"""Lead names of the codes in DICOM and HL7 aECG."""

from __future__ import annotations

import re

# Numbers of the leads in SCP-ECG (EN 1064) and in ISO/IEEE 11073-10101, which takes them over. DICOM (PS3.16, CID 3001)
# writes 5.6.3-9-61 and 2:61 for lead III.
_LEAD_OF_NUMBER = {
    1: "I",
    2: "II",
    **{number: f"V{number - 2}" for number in range(3, 9)},
    61: "III",
    62: "aVR",
    63: "aVL",
    64: "aVF",
    65: "-aVR",
}

_SCP_CODE = re.compile(r"^5\.6\.3-9-(\d+)$")
_MDC_CODE = re.compile(r"^2:(\d+)$")
_MDC_NAME = re.compile(r"_ECG_LEAD_(.+)$", re.IGNORECASE)

# The context-free form of an MDC code is partition * 65,536 + number; leads are in partition 2.
_MDC_PARTITION = 2 * 65_536


def lead_of_code(code: str) -> str | None:
    """Return the name of the lead that a code means.

    Parameters
    ----------
    code : str
        A code of SCP-ECG (``5.6.3-9-1``) or of MDC (``2:1``, ``131073``, ``MDC_ECG_LEAD_I``), or a vendor's code of
        the form of MDC.

    Returns
    -------
    str or None
        For a number that is none of the twelve leads, the code itself; None if the text is no such code.
    """
    code = code.strip().strip("\0")
    name = _MDC_NAME.search(code)
    if name:
        return "-aVR" if name[1].upper() == "AVRNEG" else name[1]
    match = _SCP_CODE.match(code) or _MDC_CODE.match(code)
    number = int(match[1]) if match else None
    if number is None and code.isdecimal() and _MDC_PARTITION < int(code) < _MDC_PARTITION + 256:
        number = int(code) - _MDC_PARTITION
    return None if number is None else _LEAD_OF_NUMBER.get(number, code)
