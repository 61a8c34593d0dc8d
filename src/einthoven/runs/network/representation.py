"""The measurements of the embeddings of a pretraining, at the end of an epoch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from einthoven.build import build
from einthoven.data.sources.labels import Labels
from einthoven.diagnostics.rank import ROWS, effective_rank
from einthoven.diagnostics.representation import active_share, alignment, collapsed_share, uniformity
from einthoven.errors import UserError
from einthoven.evaluation.metrics import have_both_labels, macro_auroc
from einthoven.evaluation.probes import fit_linear_probe
from einthoven.runs.config.settings import source_options
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.pretraining import seeded
from einthoven.tasks.pretext import Pretext

PROBED = "superdiagnostic"
"""The label set that a probe reads if the data have it."""

STRENGTH = 0.01
"""Inverse strength of the L2 penalty of a probe. `einthoven probe` chooses one, which costs six more fits."""

BATCH = 256
"""Records that are embedded at once."""


@torch.no_grad()
def representation_metrics(run: NetworkParts, task: Pretext) -> dict[str, float]:
    """Return alignment, uniformity, effective rank and share of collapsed dimensions on validation records.

    A single record has at most an alignment.
    """
    first_embeddings: list[Tensor] = []
    second_embeddings: list[Tensor] = []
    model = run.model.eval()
    with seeded(run.settings.seed, run.device):
        for x in _records(run):
            window = x[..., : run.window]
            first_embeddings.append(task.embed(model, window).float().cpu())
            views = task.two_views(window)
            if views is None and run.window < x.shape[-1]:
                views = window, x[..., -run.window :]
            if views is not None:
                of_views = [task.embed(model, view).float().cpu() for view in views]
                second_embeddings.append(torch.stack(of_views))

    embeddings = torch.cat(first_embeddings)
    metrics = {}
    # One record does not differ from others.
    if len(embeddings) > 1:
        metrics["watch/act/collapsed"] = float(collapsed_share(embeddings))
        metrics["watch/act/effective_rank"] = effective_rank(embeddings)
        metrics["watch/act/uniformity"] = float(uniformity(embeddings))
    if second_embeddings:
        first, second = torch.cat(second_embeddings, dim=1)
        metrics["watch/act/alignment"] = float(alignment(first, second))
    return metrics


@torch.no_grad()
def latent_metrics(run: NetworkParts, task: Pretext) -> dict[str, float]:
    """Return the divergence of each latent dimension on validation records; empty for a task without them."""
    model = run.model.eval()
    parts = []
    for x in _records(run):
        divergences = task.latent_divergences(model, x[..., : run.window])
        if divergences is None:
            return {}
        parts.append(divergences.float().cpu())
    means = torch.cat(parts).mean(dim=0)
    metrics = {f"watch/act/latent_kl/{number + 1}": float(value) for number, value in enumerate(means)}
    return metrics | {"watch/act/active_latents": float(active_share(means))}


class Probe:
    """A linear probe: how well labels can be read from the embeddings. It reads the labels of the source.

    It is the probe of `einthoven probe` with a fixed strength of the penalty, fitted on the first `ROWS` training
    records and judged on as many validation records. Classes without both labels among either are left out.

    Parameters
    ----------
    run : NetworkParts
        A pretraining. Its own labels are empty.

    Raises
    ------
    UserError
        If the data have no label set, or no class has both labels among the training and the validation records.
    """

    def __init__(self, run: NetworkParts) -> None:
        source = build(source_options(run.config), "data")
        if not source.label_sets:
            raise UserError(
                "diagnostics.probe_auroc: reads labels, and these data have no label set that all sources share; "
                "expected null."
            )
        name = PROBED if PROBED in source.label_sets else source.label_sets[0]
        labels: Labels = source.labels(
            run.data.store.table, name, single_label=False, keep_unlabelled=True, min_likelihood=0.0
        )
        row_of_id = {ecg_id: row for row, ecg_id in enumerate(labels.ecg_ids)}
        of_split = {}
        for split in ("train", "val"):
            ids = run.data.labels.ecg_ids[run.data.rows[split]][:ROWS]
            of_split[split] = labels.matrix[[row_of_id[ecg_id] for ecg_id in ids]]
        # Fit and AUROC need a class with both labels. That is checked before the training begins.
        has_both_labels = have_both_labels(of_split["train"]) & have_both_labels(of_split["val"])
        if not has_both_labels.any():
            raise UserError(
                f"diagnostics.probe_auroc: no class of the label set {name} has both labels among the "
                f"{len(of_split['train'])} training records and among the {len(of_split['val'])} validation records; "
                "expected null, or other folds."
            )
        self._labels = {split: matrix[:, has_both_labels] for split, matrix in of_split.items()}

    @torch.no_grad()
    def auroc(self, run: NetworkParts, task: Pretext) -> float:
        """Return the macro AUROC on validation records of a probe that is fitted on training records."""
        model = run.model.eval()
        embeddings = {}
        for split in ("train", "val"):
            parts = [task.embed(model, x[..., : run.window]).float().cpu() for x in _records(run, split)]
            embeddings[split] = torch.cat(parts).double().numpy()
        patients = run.data.labels.patients[run.data.rows["train"]][:ROWS]
        probe = fit_linear_probe(embeddings["train"], self._labels["train"], patients, strengths=[STRENGTH])
        return float(macro_auroc(self._labels["val"], probe.logits(embeddings["val"])))


def _records(run: NetworkParts, split: str = "val") -> Iterator[Tensor]:
    """Yield the first records of a split, whole, in batches."""
    records = run.data.splits[split]
    rows = torch.arange(min(ROWS, len(records)), device=run.device)
    for part in torch.split(rows, BATCH):
        yield records.take(part, records.samples)
