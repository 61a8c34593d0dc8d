"""`bench/hospitals.py`: which sources and classes have an AUROC, and that a refusal names no folder."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from einthoven.predict.answers import Answer

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import hospitals


def test_a_source_has_the_aurocs_of_the_classes_that_it_annotates() -> None:
    rng = np.random.default_rng(0)
    y = rng.uniform(size=(150, 5)) < [0.3, 0.3, 0.3, 0.3, 0.02]
    p = rng.uniform(size=(150, 5)) + 0.5 * y
    rows = []
    for labels, values in zip(y, p, strict=True):
        names = tuple(np.array(hospitals.CLASSES)[labels])
        rows.append(hospitals.Row("A1", "cpsc2018", "answered", math.nan, tuple(values), names, ()))
    cells = hospitals.auroc_cells(rows, "cpsc2018")
    # CPSC 2018 has no code of hypertrophy or infarction, and the last class has too few positive records.
    aurocs = [roc_auc_score(y[:, k], p[:, k]) for k in (0, 3)]
    assert cells[1:] == [f"{aurocs[0]:.3f}", "–", "–", f"{aurocs[1]:.3f}", "–"]
    assert cells[0].startswith(f"{np.mean(aurocs):.3f} (")
    assert hospitals.auroc_cells(rows[:99], "cpsc2018") == ["–"] * 6


def test_a_refused_record_has_its_labels_and_no_folder(tmp_path: Path) -> None:
    header = tmp_path / "E00001.hea"
    header.write_text("E00001 12 500 5000\n#Dx: 164909002,426783006\n")
    row = hospitals.read_row(Answer(header, refused=f"{header}: damaged."), [], tmp_path)
    assert row.cells[:3] == ["E00001", "georgia", "refused: E00001.hea: damaged."]
    assert row.cells[3:] == ["", "", "", "CD", "left bundle branch block; sinus rhythm"]
