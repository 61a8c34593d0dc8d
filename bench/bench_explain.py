"""What each method of explanation is worth, on real ECGs.

    python bench/bench_explain.py PTBXL_ROOT [BUNDLE] [RECORDS] [FOLD]

With the bundle of a run (by default the one that comes with the package) and records of fold 8 (or another) with a
superclass that it knows, each explained for its own class: of several, the most probable one. Prints for each method of
conf/explanation the area under the probability of deletion (small is good) and insertion (large is good), beside random
orders; the rank correlation of its map, and of the size of its map, with the same in a network with its weights dealt
anew (near 0 is good); in how many records it beats chance in both; and the time of the processor for one record. Then
how far integrated gradients are from adding up to what the record changes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch

from einthoven.commands.explain import method_named
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.errors import UserError
from einthoven.evaluation.faithfulness import (
    deletion_insertion,
    patch_length,
    permute_weights,
    random_areas,
    rank_correlation,
)
from einthoven.evaluation.saliency import integrated_gradients, select_output
from einthoven.predict import load_bundle
from einthoven.predict.log_odds import LogOdds
from einthoven.terminal.conf_folders import conf_folder

AT_ONCE = 4  # records: their variants fill the batches
STEPS = (8, 16, 32, 64)


def records(root: Path, classes: tuple[str, ...], count: int, fold: int) -> tuple[torch.Tensor, np.ndarray]:
    """Signals (n, 12, T) in mV and labels (n, K) of the first records of a fold."""
    source = PTBXL(root, 100, Path("data"), allow_missing=True)
    store = source.open()
    labels = source.labels(store.table, "superdiagnostic", single_label=False, keep_unlabelled=False, min_likelihood=0)
    if tuple(labels.classes) != classes:
        raise UserError(f"the bundle knows {classes}; expected one trained for {labels.classes}.")
    position = {number: row for row, number in enumerate(store.table["ecg_id"])}
    rows = np.flatnonzero(labels.folds == fold)[:count]
    stored = [position[number] for number in labels.ecg_ids[rows]]
    return torch.from_numpy(store.signals[stored].astype(np.float32) * np.float32(1e-3)), labels.matrix[rows]


def main(root: Path, bundle: str | None, count: int, fold: int) -> None:
    torch.set_num_threads(1)
    predictor = load_bundle(*([bundle] if bundle else []))
    print(predictor.notice)
    model = LogOdds.from_bundle(predictor.bundles[0])
    x, y = records(root, predictor.classes, count, fold)
    with torch.no_grad():
        z = torch.cat([model(part) for part in torch.split(x, AT_ONCE)])
    target = torch.where(torch.from_numpy(y) > 0, z, -torch.inf).argmax(dim=1)
    p = select_output(z, target).sigmoid()
    names = sorted(path.stem for path in (conf_folder() / "explanation").glob("*.yaml"))
    print(f"{len(x)} records of fold {fold}, probability of their class {p.mean():.3f} as a mean")
    print(f"{'method':22} deletion (chance)  insertion (chance)  beats  sanity size  sanity sign  ms a record")
    parts = list(zip(torch.split(x, AT_ONCE), torch.split(target, AT_ONCE), strict=True))
    patch = patch_length(predictor.input_format.fs)
    chance = torch.cat([random_areas(model, part, wanted, patch=patch) for part, wanted in parts], dim=1)
    for name in names:
        method = method_named([conf_folder()], name, predictor.input_format.fs)
        areas, sizes, signs, seconds = [], [], [], 0.0
        for part, wanted in parts:
            start = time.process_time()
            relevance = method(model, part, wanted)
            seconds += time.process_time() - start
            areas.append(deletion_insertion(model, part, relevance, wanted, patch=patch).mean(dim=2))
            other = method(permute_weights(model, part), part, wanted)
            sizes.append(rank_correlation(relevance.abs(), other.abs()))
            signs.append(rank_correlation(relevance, other))
        deletion, insertion = torch.cat(areas, dim=1)
        won = (deletion < chance[0]) & (insertion > chance[1])
        size, sign = (torch.cat(values).nanmean() for values in (sizes, signs))
        print(
            f"{name:22} {deletion.mean():8.3f} ({chance[0].mean():.3f})  {insertion.mean():9.3f} "
            f"({chance[1].mean():.3f})  {won.double().mean():5.0%}  {size:11.2f}  {sign:11.2f}  "
            f"{1e3 * seconds / len(x):11.0f}",
            flush=True,
        )
    part, wanted = x[:AT_ONCE], target[:AT_ONCE]
    with torch.no_grad():
        change = select_output(model(part), wanted) - select_output(model(torch.zeros_like(part)), wanted)
    for steps in STEPS:
        gap = integrated_gradients(model, part, wanted, steps=steps).sum(dim=(1, 2)) - change
        print(
            f"integrated gradients, {steps} steps: off by {gap.abs().mean():.3f} of {change.abs().mean():.3f} log-odds"
        )


if __name__ == "__main__":
    given = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] != "-" else None
    numbers = [int(value) for value in sys.argv[3:5]]
    main(Path(sys.argv[1]), given, *(numbers + [24, 8][len(numbers) :]))
