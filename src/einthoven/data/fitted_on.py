"""The real records that the generator was fitted to, by their signals.

`synthetic/fitted_on.csv` lists the digest of the first second of each record at 100 Hz, in the order of `LEADS`.
``bench/list_fitted_records.py`` writes it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from einthoven.data.store.digests import Digests, from_bytes

FILE = Path(__file__).parent / "synthetic" / "fitted_on.csv"

GENERATED = "einthoven.data.sources.embedded.Synthetic"
"""The source of generated records, as configurations name it."""

VERSIONS = (2,)
"""Versions of the generator whose numbers were fitted to these records. Version 1 was not fitted."""

_TARGET = "._target_"


def fitted_records(options: Mapping[str, object]) -> Digests:
    """Return the real records that a model has seen through the generator of its training records.

    Parameters
    ----------
    options : mapping
        The options of a run by their dotted names, such as ``data._target_`` and ``data.version``.

    Returns
    -------
    ndarray of S16
        Digests of first seconds; empty if the run was not trained on generated records.
    """
    for name, value in options.items():
        is_generated = name.startswith("data.") and name.endswith(_TARGET) and value == GENERATED
        if is_generated and options.get(f"{name.removesuffix(_TARGET)}.version") in VERSIONS:
            return records_of_generator()
    return np.empty(0, "S16")


@cache
def records_of_generator() -> Digests:
    """Return the real records that the present generator was fitted to, as `fitted_records`."""
    with FILE.open(newline="") as file:
        texts = [row["first_second"] for row in csv.DictReader(file)]
    digests = np.frombuffer(bytes.fromhex("".join(texts)), np.uint8).reshape(-1, 16)
    return from_bytes(digests)
