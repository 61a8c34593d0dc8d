"""The scores of probes on the embeddings of a trained encoder, and on those of random encoders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.evaluation.metrics import have_both_labels
from einthoven.evaluation.probe_comparison import ProbeResult, compare
from einthoven.evaluation.probes import fit_linear_probe, neighbour_scores
from einthoven.predict.embedding import Encoder
from einthoven.predict.network import fold_batch_norm
from einthoven.runs.data.run_data import Data, aggregate_rows, group_rows
from einthoven.runs.evaluation.encoder import TrainedEncoder
from einthoven.runs.network.build_model import build_model
from einthoven.schema import ProbeOptions
from einthoven.terminal.display import bar

BATCH = 256
"""Records that are embedded together."""

Float = NDArray[np.float64]


def compare_encoders(
    trained: TrainedEncoder, data: Data, options: ProbeOptions, device: torch.device
) -> tuple[tuple[str, ...], dict[str, ProbeResult]]:
    """Fit and judge the probes ``linear`` and ``neighbours`` on the trained encoder and on random ones.

    Return also the classes with both labels among the training records and among the judged ones. The others are left
    out.
    """
    train_labels = data.record_labels("train")
    labels = data.record_labels(options.report)
    has_both_labels = have_both_labels(train_labels) & have_both_labels(labels)
    if not has_both_labels.any():
        raise UserError(
            f"data.folds: no class has both labels in train and in {options.report}; expected folds with more records."
        )
    train_y = train_labels[:, has_both_labels]
    y = labels[:, has_both_labels]

    linear_scores: list[Float] = []
    neighbours: list[Float] = []
    strengths: list[float] = []
    with bar("embedding and fitting") as progress:
        for encoder in _encoders(trained, data, options, device):
            train_x = embed_records(encoder, data, "train")
            x = embed_records(encoder, data, options.report)
            linear = fit_linear_probe(train_x, train_y, data.patients("train"), seed=options.seed)
            linear_scores.append(linear.logits(x))
            neighbours.append(neighbour_scores(train_x, train_y, x, options.neighbours))
            strengths.append(linear.inverse_strength)
            progress(len(strengths), 1 + options.random)

    bootstrap: dict[str, Any] = {
        "resamples": options.resamples,
        "level": options.level,
        "seed": options.seed,
        "groups": data.patients(options.report),
    }
    # The first scores are those of the trained encoder.
    linear_result = compare(y, linear_scores[0], linear_scores[1:], **bootstrap)
    results = {
        "linear": replace(linear_result, inverse_strengths=tuple(strengths)),
        "neighbours": compare(y, neighbours[0], neighbours[1:], **bootstrap),
    }
    names = np.array(data.labels.classes)[has_both_labels]
    return tuple(names.tolist()), results


def _encoders(trained: TrainedEncoder, data: Data, options: ProbeOptions, device: torch.device) -> Iterator[Encoder]:
    """Yield the trained encoder, then the random ones. Only one of them is in memory at a time."""
    yield replace(trained.encoder, model=trained.encoder.model.to(device))
    for number in range(options.random):
        yield _random_encoder(trained, data, device, options.seed + number)


def _random_encoder(trained: TrainedEncoder, data: Data, device: torch.device, seed: int) -> Encoder:
    """Return an encoder of the same architecture and initialization, with weights of a seed.

    Its frontend is fitted by the rule of the run, on the training records of the probe.
    """
    classes = len(data.labels.classes)
    window = trained.encoder.input_format.window
    moments = data.measured.moments
    model = build_model(trained.config, data.splits["train"], moments, classes, window, device, seed)
    return replace(trained.encoder, model=fold_batch_norm(model), kind="random", sha256="")


def embed_records(encoder: Encoder, data: Data, split: str) -> Float:
    """Return the embeddings (n, D) of the records of a split: the mean over the rows of each record."""
    batches = evaluation_batches(data.splits[split], size=BATCH)
    # Device-to-host sync: once per batch.
    rows = np.concatenate([encoder.embed(batch.x)[batch.valid].cpu().numpy() for batch in batches])
    _, record_of_row = group_rows(data.row_origins(split)[0])
    return aggregate_rows(rows.astype(np.float64), record_of_row, "mean")
