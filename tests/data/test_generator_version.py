"""The version of the generator: a change of the signals changes it, a change of the code does not."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from einthoven.data.sources.embedded import Synthetic
from einthoven.data.synthetic import GENERATOR_VERSION, generate
from einthoven.data.synthetic.generate import Generated
from einthoven.data.synthetic.version import DESCRIPTION
from einthoven.errors import UserError

ROOT = Path(__file__).parents[2]

# Version -> digest of masks and statements, and the size in µV of I, II and V1 to V6, of a few records. If this test
# fails and the change is wanted, raise GENERATOR_VERSION (in src/einthoven/data/synthetic/version.py and in
# conf/data/synthetic.yaml) and add a line here.
DIGESTS: dict[int, tuple[str, list[list[int]]]] = {
    2: (
        "19c198bbe2127bf0",
        [
            [127, 587, 237, 294, 246, 338, 291, 299],
            [219, 295, 293, 404, 275, 196, 261, 291],
            [181, 286, 240, 343, 224, 151, 203, 288],
            [149, 147, 142, 228, 305, 200, 228, 214],
        ],
    ),
}


def digest(generated: Generated) -> tuple[str, list[list[int]]]:
    """Return a digest of what is exact, and the root mean square of what another processor may round otherwise."""
    found = hashlib.sha256()
    for row in generated.rows:
        codes = sorted(ast.literal_eval(str(row["scp_codes"])))
        found.update(json.dumps([codes, row["age"], row["sex"], row["strat_fold"]]).encode())
    found.update(generated.masks[100].tobytes())
    signals = generated.signals[100][:, [0, 1, 6, 7, 8, 9, 10, 11]].astype(float)
    size = np.sqrt((signals**2).mean(axis=2))
    return found.hexdigest()[:16], np.rint(size).astype(int).tolist()


def test_the_signals_of_this_version_have_not_changed() -> None:
    exact, size = digest(generate(4, seed=1))
    expected_exact, expected_size = DIGESTS[GENERATOR_VERSION]
    assert exact == expected_exact
    assert np.abs(np.subtract(size, expected_size)).max() <= 1


def test_the_option_is_the_version_of_the_generator() -> None:
    options = yaml.safe_load((ROOT / "conf" / "data" / "synthetic.yaml").read_text())
    assert options["version"] == GENERATOR_VERSION == max(DIGESTS)


def test_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"data.version=1: expected {GENERATOR_VERSION}"):
        Synthetic(2, 0, 1.0, 100, tmp_path, version=1).open()


def test_the_folder_is_named_by_version_and_options(tmp_path: Path) -> None:
    names = [
        Synthetic(*options, 100, tmp_path, version=version).root.name
        for options in ((2, 0, 1.0), (2, 1, 1.0), (2, 0, 0.5), (3, 0, 1.0))
        for version in (GENERATOR_VERSION, GENERATOR_VERSION + 1)
    ]
    assert len(set(names)) == 8
    assert names[0].startswith(f"synthetic-v{GENERATOR_VERSION}-2-")


def test_a_foreign_or_incomplete_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    source = Synthetic(2, 0, 1.0, 100, tmp_path)
    source.open()
    description = json.loads((source.root / DESCRIPTION).read_text())
    assert description["generator"] == GENERATOR_VERSION
    source.open()

    table = source.root / "ptbxl_database.csv"
    whole = table.read_text()
    table.write_text(whole[:-20])
    with pytest.raises(UserError, match=r"ptbxl_database.csv: expected the table that was generated"):
        source.open()
    assert table.read_text() == whole[:-20]
    table.write_text(whole)

    (source.root / DESCRIPTION).write_text(json.dumps(description | {"seed": 5}))
    with pytest.raises(UserError, match="seed is 5, expected 0"):
        source.open()
    for text in ("", "[]", "{"):
        (source.root / DESCRIPTION).write_text(text)
        with pytest.raises(UserError, match=DESCRIPTION):
            source.open()
    (source.root / DESCRIPTION).unlink()
    with pytest.raises(UserError, match="expected a generated set"):
        source.open()
