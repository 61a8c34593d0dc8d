"""Label doctor: how many planted label errors stand among the first records of its ranking?

    python bench/bench_label_doctor.py PTBXL_ROOT

Plants errors in 5 % of the labelled records of folds 1 to 9, and ranks the records by several scores. ``flip``: one
class of a record becomes the opposite. ``exchange``: two records get the labels of each other. The probabilities are
those of the default recipe, out of fold, in docs/results/label_doctor.npz: it was trained in three groups of folds on
the labels as they are. So the network has not seen the planted errors.

As many records are looked at as have an error, so precision and recall are the same number there: the column ``5 %``.
``10 %`` is the recall among twice as many, ``AP`` the average precision of the whole ranking. Real records have errors
of their own, which nobody has planted: they count as wrong answers here. Options:

    --seeds 0,1,2        seeds of the planted errors
    --kinds flip,exchange
    --pictures FOLDER    plant nothing, and draw the first 20 records
    --train FOLDER       train a small network in a cross-validation on the planted errors, with areas under the margin:
                         a third of a minute for each of its networks. Every cross-validation stays in FOLDER, and a
                         second call continues there
    --data ptbxl         with --train: ptbxl, generated, or both with a comma
    --groups 3           with --train: join the nine folds to so many groups
    --records 1000       with --train: generated records
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from planted_labels import KINDS, plant, read_codes
from sklearn.metrics import average_precision_score

from einthoven import cli
from einthoven.data.synthetic import write_synthetic
from einthoven.evaluation import label_errors

Float64 = NDArray[np.float64]
Judged = tuple[float, float, float]
"""Precision at 5 %, recall at 10 %, average precision."""

FOLDS = [1, 2, 3, 4, 5, 6, 7, 8, 9]
SHARE = 0.05
RECIPE = (
    "model.channels=[16,32,32]",
    "trainer.epochs=20",
    "trainer.device=cpu",
    "diagnostics=none",
    "diagnostics.log_odds=true",
    "tracking.artifacts=false",
)
PREDICTIONS = Path(__file__).parents[1] / "docs" / "results" / "label_doctor.npz"
SCALE = 10_000
"""Probabilities are stored as whole numbers."""
CLASSES = ("CD", "HYP", "MI", "NORM", "STTC")
SHOWN = 20
DPI = 110
COLOURS = 32
"""Colours of a picture for the docs. A page of ECG paper has few, and a palette makes the file small."""


def train(folder: Path, seed: int, groups: int) -> None:
    """Train a cross-validation on the corpus of a folder."""
    options = [
        "train",
        "data=ptbxl",
        f"data.root={folder / 'corpus'}",
        f"data.cache={folder.parent / 'cache'}",
        "data.allow_missing=true",
        "folds=cv",
        f"data.folds.train={list(range(1, groups + 1))}",
        f"seed={seed}",
        f"tracking.uri=sqlite:///{folder.parent.resolve()}/mlflow.db",
        f"hydra.run.dir={folder / 'run'}",
        *RECIPE,
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        cli.main(options)


def scores_of(
    y: NDArray[np.bool_], p: NDArray[np.float64], odds: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the score of each record by several rules; a large one is suspicious."""
    negative, positive = label_errors.mean_confidences(y, p)
    self_confidence = np.where(y, p, 1.0 - p)
    margin = label_errors.margins(y, label_errors.log_odds(p))
    # The confident errors first, each group by its margin.
    is_error = label_errors.is_confident_error(y, p)
    confident_first = margin - 2 * np.abs(margin).max() * is_error
    ordered = np.sort(self_confidence, axis=1)
    moving = ordered[:, -1]
    for k in range(ordered.shape[1] - 2, -1, -1):
        moving = 0.8 * ordered[:, k] + 0.2 * moving
    scores = {
        "self-confidence, smallest of the record": -self_confidence.min(axis=1),
        "self-confidence, moving average (0.8)": -moving,
        "self-confidence - threshold of the class": (np.where(y, positive, negative) - self_confidence).max(axis=1),
        "confident errors, then margin": -confident_first.min(axis=1),
        "margin, sum over the record": -margin.sum(axis=1),
    }
    if odds is not None:
        area = label_errors.margins(y, odds)
        scores["area under the margin, smallest"] = -area.min(axis=1)
        scores["margin + area, smallest"] = -(margin + area).min(axis=1)
        scores["margin + area + conflict: the label doctor"] = label_errors.rank_labels(y, p, odds).record_scores
    scores["margin + conflict: the label doctor without areas"] = label_errors.rank_labels(y, p).record_scores
    return scores


def read_predictions(root: Path) -> tuple[pd.DataFrame, NDArray[np.bool_], Float64]:
    """Return the records of the committed predictions (ecg_id and fold), their labels, and the probabilities."""
    with np.load(PREDICTIONS) as arrays:
        records = pd.DataFrame({"ecg_id": arrays["ecg_id"].astype(np.int64), "fold": arrays["fold"].astype(np.int64)})
        p = arrays["p"] / SCALE
    table, codes, class_of = read_codes(root)
    given = dict(zip(table.ecg_id, ({class_of.get(code) for code in of_record} for of_record in codes), strict=True))
    y = np.array([[name in given[record] for name in CLASSES] for record in records.ecg_id])
    return records, y, p


def judge(score: Float64, is_planted: NDArray[np.bool_]) -> Judged:
    """Return precision at 5 %, recall at 10 % and average precision of a score."""
    first = int(is_planted.sum())
    order = np.argsort(-score, kind="stable")
    precision = float(is_planted[order[:first]].mean())
    recall = float(is_planted[order[: 2 * first]].sum() / first)
    return precision, recall, float(average_precision_score(is_planted, score))


def measure(folder: Path) -> dict[str, Judged]:
    """Return precision at 5 %, recall at 10 % and average precision of each score."""
    table = pd.read_parquet(folder / "run" / "out_of_fold.parquet").set_index("record_id").sort_index()
    log_odds = pd.read_parquet(folder / "run" / "training_log_odds.parquet").set_index("record_id")
    classes = [name.removesuffix("_label") for name in table if name.endswith("_label")]
    y = table[[f"{name}_label" for name in classes]].to_numpy() > 0.5
    p = table[[f"{name}_probability" for name in classes]].to_numpy()
    odds = log_odds.loc[table.index, [f"{name}_log_odds" for name in classes]].to_numpy()
    is_planted = table.index.isin(np.load(folder / "planted.npy"))
    is_error = label_errors.is_confident_error(y, p).any(axis=1)
    precision = is_planted[is_error].mean()
    recall = is_error[is_planted].mean()
    print(f"{folder.name}: {len(y)} records, {int(is_planted.sum())} with a planted error")
    print(f"confident learning names {is_error.sum()} records, precision {precision:.3f}, recall {recall:.3f}")
    return {name: judge(score, is_planted) for name, score in scores_of(y, p, odds).items()}


def draw(root: Path, target: Path) -> None:
    """Rank the real records, and draw the first ones with their statements."""
    from PIL import Image

    from einthoven.data.formats.reading import read_record
    from einthoven.report.label_page import LabelRow, Statement, Suspect, suspect_picture
    from einthoven.runs.folds.label_doctor import ATTRIBUTIONS

    records, y, p = read_predictions(root)
    table, codes, _ = read_codes(root)
    row_of = {ecg_id: row for row, ecg_id in enumerate(table.ecg_id)}
    texts = pd.read_csv(root / "scp_statements.csv", index_col=0)["description"].to_dict()
    ranking = label_errors.rank_labels(y, p)
    print(f"{len(y)} records, {int(ranking.is_error.sum())} labels that the model is confident are wrong")

    target.mkdir(parents=True, exist_ok=True)
    for rank, record in enumerate(ranking.order[:SHOWN].tolist(), 1):
        row = row_of[records.ecg_id[record]]
        read_signal = read_record(root / table.filename_lr[row])
        labels = []
        for k, name in enumerate(CLASSES):
            label_score = float(ranking.label_scores[record, k])
            is_error = bool(ranking.is_error[record, k])
            labels.append(LabelRow(name, bool(y[record, k]), float(p[record, k]), label_score, is_error))
        suspect = Suspect(
            rank=rank,
            name=str(records.ecg_id[record]),
            fold=int(records.fold[record]),
            labels=labels,
            statements=[Statement(code, value, str(texts.get(code, ""))) for code, value in codes[row].items()],
            signal=read_signal.signal,
            fs=read_signal.fs,
            leads=read_signal.leads,
            attribution=ATTRIBUTIONS["ptbxl"],
        )
        with Image.open(io.BytesIO(suspect_picture(suspect, DPI))) as image:
            small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            small.save(target / f"{rank:02d}.png", optimize=True)
        statements = ", ".join(f"{s.code} {s.likelihood:g}" for s in suspect.statements)
        score = ranking.record_scores[record]
        print(f"{rank}. record {suspect.name}: {suspect.given} [{statements}]; {suspect.predicted}; score {score:.2f}")


def plant_after(root: Path, kinds: list[str], seeds: list[int]) -> dict[str, dict[str, list[Judged]]]:
    """Plant errors in the labels of the committed predictions, and judge each score."""
    records, _, p = read_predictions(root)
    cells: dict[str, dict[str, list[Judged]]] = {}
    for kind, seed in itertools.product(kinds, seeds):
        with tempfile.TemporaryDirectory() as folder:
            planted = plant(root, Path(folder) / "corpus", kind, SHARE, seed, FOLDS, len(FOLDS))
            _, codes, class_of = read_codes(Path(folder) / "corpus")
        table, _, _ = read_codes(root)
        given = {}
        for record, of_record in zip(table.ecg_id, codes, strict=True):
            given[record] = {class_of.get(code) for code in of_record}
        wrong = np.array([[name in given[record] for name in CLASSES] for record in records.ecg_id])
        is_planted = np.isin(records.ecg_id, planted)
        for score, values in scores_of(wrong, p, None).items():
            cells.setdefault(score, {}).setdefault(kind, []).append(judge(values, is_planted))
    return cells


def train_on_planted(args: argparse.Namespace, seeds: list[int]) -> dict[str, dict[str, list[Judged]]]:
    """Train on planted errors what is missing, and judge each score."""
    args.train.mkdir(parents=True, exist_ok=True)
    roots = {"ptbxl": args.root, "generated": args.train / "generated"}
    cells: dict[str, dict[str, list[Judged]]] = {}
    for data, seed, kind in itertools.product(args.data.split(","), seeds, args.kinds.split(",")):
        if data == "generated" and not roots[data].is_dir():
            write_synthetic(roots[data], records=args.records, seed=0)
        folder = args.train / f"{data}-{kind}-{seed}"
        if not (folder / "planted.npy").exists():
            planted = plant(roots[data], folder / "corpus", kind, SHARE, seed, FOLDS, args.groups)
            train(folder, seed, args.groups)
            np.save(folder / "planted.npy", planted)
        for score, values in measure(folder).items():
            cells.setdefault(score, {}).setdefault(f"{data} {kind}", []).append(values)
    return cells


def main() -> None:
    """Read the options, and print the table or draw the pictures."""
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--data", default="ptbxl")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    if args.pictures is not None:
        draw(args.root, args.pictures)
    elif args.train is not None:
        print_table(train_on_planted(args, seeds))
    else:
        print_table(plant_after(args.root, args.kinds.split(","), seeds))


def print_table(cells: dict[str, dict[str, list[Judged]]]) -> None:
    """Print the mean over the seeds: one row for each score."""
    columns = list(next(iter(cells.values())))
    print("| score | " + " | ".join(f"{name}: 5 % | 10 % | AP" for name in columns) + " |")
    print("|---|" + "---|---|---|" * len(columns))
    for score, by_condition in cells.items():
        means = [value for name in columns for value in np.mean(by_condition[name], axis=0)]
        print(f"| {score} | " + " | ".join(f"{value:.3f}" for value in means) + " |")


if __name__ == "__main__":
    main()
