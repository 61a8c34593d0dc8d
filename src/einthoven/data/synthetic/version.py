"""The version of the generator, and the description of a generated folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from einthoven.errors import UserError
from einthoven.files import file_digest, read_file

GENERATOR_VERSION = 2
"""Changes with the signals, masks or tables of a set. `tests/data/test_generator_version.py` notices such a change."""

DESCRIPTION = "generated.json"
"""File in a generated folder that says what it contains. It is written last."""

TABLES = ("ptbxl_database.csv", "scp_statements.csv")

_LONGEST_DESCRIPTION = 1 << 16


def _settings(records: int, seed: int, noise: float, rates: Sequence[int]) -> dict[str, object]:
    return {
        "generator": GENERATOR_VERSION,
        "records": records,
        "seed": seed,
        "noise": float(noise),
        "rates": sorted(rates),
    }


def describe_set(root: Path, *, records: int, seed: int, noise: float, rates: Sequence[int]) -> str:
    """Return the description of a generated folder: version, options and the SHA-256 of its tables."""
    digests = {name: file_digest(root / name) for name in TABLES}
    return json.dumps(_settings(records, seed, noise, rates) | {"sha256": digests}, indent=1) + "\n"


def check_set(root: Path, *, records: int, seed: int, noise: float, rates: Sequence[int]) -> None:
    """Check that a folder contains a whole set that this version has generated with these options.

    Raises
    ------
    UserError
        If the folder lacks its description or a table, if it was made by another version or with other options, or if
        a table has changed.
    """
    remedy = "remove the folder, and the records are generated again."
    try:
        content = json.loads(read_file(root / DESCRIPTION, _LONGEST_DESCRIPTION))
    except (UserError, ValueError):
        raise UserError(f"{root}: expected a generated set with its {DESCRIPTION}, found none; {remedy}") from None
    description = content if isinstance(content, dict) else {}
    for name, value in _settings(records, seed, noise, rates).items():
        if description.get(name) != value:
            raise UserError(f"{root / DESCRIPTION}: {name} is {description.get(name)}, expected {value}; {remedy}")
    for name in TABLES:
        file = root / name
        if not file.is_file() or file_digest(file) != description.get("sha256", {}).get(name):
            raise UserError(f"{file}: expected the table that was generated, found another or none; {remedy}")
