"""Corpora in the layout of PTB-XL with planted label errors, for bench_label_doctor.py and its tests."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

STATEMENT_OF_CLASS = {"NORM": "NORM", "MI": "IMI", "STTC": "NDT", "CD": "CLBBB", "HYP": "LVH"}
"""The statement that is added to a record to make a class positive."""

KINDS = ("flip", "exchange")
"""flip: one class of a record becomes the opposite. exchange: two records get the statements of each other."""


def read_codes(root: Path) -> tuple[pd.DataFrame, list[dict[str, float]], dict[str, str]]:
    """Return the table of a corpus, the statements of each record, and the class of each diagnostic statement."""
    table = pd.read_csv(root / "ptbxl_database.csv")
    statements = pd.read_csv(root / "scp_statements.csv", index_col=0)
    class_of = statements.loc[statements.diagnostic == 1, "diagnostic_class"].to_dict()
    return table, [ast.literal_eval(text) for text in table.scp_codes], class_of


def plant(
    root: Path, folder: Path, kind: str, share: float, seed: int, folds: list[int], groups: int
) -> NDArray[np.int64]:
    """Write a corpus with planted label errors beside the records of another one.

    Parameters
    ----------
    root : Path
        Corpus in the layout of PTB-XL.
    folder : Path
        The folder to write. Its records are a link to those of `root`.
    kind : str
        One of `KINDS`. A flip leaves one class or more.
    share : float
        Share of the labelled records of `folds` that get an error.
    seed : int
    folds : list of int
    groups : int
        Join the folds to so many groups of patients, which are the folds of the new corpus.

    Returns
    -------
    ndarray of int
        ``ecg_id`` of the records with an error, ascending.
    """
    table, codes, class_of = read_codes(root)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    classes = [{class_of[code] for code in of_record if code in class_of} for of_record in codes]
    candidates = [i for i in range(len(table)) if classes[i] and table.strat_fold[i] in folds]
    rng.shuffle(candidates)
    count = round(share * len(candidates))
    changed: list[int] = []
    if kind == "flip":
        for i in candidates[:count]:
            codes[i] = _flip(codes[i], classes[i], class_of, rng)
            changed.append(i)
    else:
        changed = _exchange(codes, classes, candidates, count)
    table["scp_codes"] = [str(of_record) for of_record in codes]
    _write(table, root, folder, folds, groups)
    return np.sort(table.ecg_id.to_numpy(np.int64)[changed])


def _write(table: pd.DataFrame, root: Path, folder: Path, folds: list[int], groups: int) -> None:
    """Write a corpus with another table beside the records of `root`."""
    group_of = {fold: position % groups + 1 for position, fold in enumerate(folds)}
    # Other folds become fold 10, which no training uses.
    table["strat_fold"] = [group_of.get(fold, 10) for fold in table.strat_fold]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    table.to_csv(folder / "ptbxl_database.csv", index=False)
    shutil.copy(root / "scp_statements.csv", folder)
    (folder / "records100").symlink_to((root / "records100").resolve())


def _flip(
    codes: dict[str, float], classes: set[str], class_of: dict[str, str], rng: np.random.Generator
) -> dict[str, float]:
    """Return the statements of a record after one class has become the opposite. One class or more is left."""
    allowed = [name for name in sorted(STATEMENT_OF_CLASS) if classes != {name}]
    name = str(rng.choice(allowed))
    if name not in classes:
        return codes | {STATEMENT_OF_CLASS[name]: 100.0}
    return {code: likelihood for code, likelihood in codes.items() if class_of.get(code) != name}


def _exchange(codes: list[dict[str, float]], classes: list[set[str]], candidates: list[int], count: int) -> list[int]:
    """Exchange the statements of pairs of records with other classes. Return the records that were changed."""
    changed: list[int] = []
    waiting: list[int] = []
    for i in candidates:
        if len(changed) + 2 > count:
            break
        partner = next((j for j in waiting if classes[j] != classes[i]), None)
        if partner is None:
            waiting.append(i)
            continue
        waiting.remove(partner)
        codes[i], codes[partner] = codes[partner], codes[i]
        changed += [i, partner]
    return changed
