"""The pictures of a pretraining: reconstructed and generated signals on ECG paper, and heart vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.contracts import Batch
from einthoven.report.dipole import dipole_figure
from einthoven.report.ecg_paper import examples_figure
from einthoven.report.reconstruction import reconstructions_figure
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.pretraining import seeded
from einthoven.tasks.pretext import Pretext

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWN = 4
"""Number of signals of a picture."""

EXAMPLES = 25_600
"""Most windows of training records that a task learns from how to generate signals."""

WINDOWS_OF_RECORD = 16
"""Most windows of one record among them."""

AT_ONCE = 128
"""Windows that pass through the network at once."""


@torch.no_grad()
def reconstruction_figures(run: NetworkParts, split: str) -> dict[str, Callable[[], Figure]]:
    """Return the pictures of reconstructed and generated signals and of heart vectors; empty if the task makes none.

    The records are spread evenly over the split.
    """
    task = run.task
    if not isinstance(task, Pretext):
        return {}
    records = run.data.splits[split]
    rows = np.unique(np.linspace(0, len(records) - 1, DRAWN).astype(np.int64))
    index = torch.from_numpy(rows).to(run.device)
    x = records.take(index, run.window)
    is_valid = torch.ones(len(index), dtype=torch.bool, device=run.device)
    model = run.model.eval()
    with seeded(run.settings.seed, run.device):
        reconstructed = task.reconstruct(model, x)
        generated = task.generate(model, DRAWN, training_windows(run))
        dipoles = task.trace_dipoles(model, Batch(x, records.labels[index], index, is_valid))

    fs = run.data.store.fs
    leads = run.data.store.leads
    figures: dict[str, Callable[[], Figure]] = {}
    titles = [f"record {run.data.labels.ecg_ids[run.data.rows[split][row]]} ({split})" for row in rows]
    if reconstructed is not None:
        signals, is_hidden = (values.cpu().numpy() for values in reconstructed)
        figures["reconstructions"] = partial(
            reconstructions_figure, x.cpu().numpy(), signals, fs, titles, hidden=is_hidden, leads=leads
        )
    if generated is not None:
        figures["generated"] = partial(_generated_figure, generated.cpu().numpy(), fs, leads)
    if dipoles is not None:
        true, predicted = (values.cpu().numpy() for values in dipoles)
        figures["heart_vectors"] = partial(dipole_figure, true, predicted, titles)
    return figures


def training_windows(run: NetworkParts) -> Iterator[Tensor]:
    """Yield windows of the training records at random places, in batches (B, L, T) in mV, from torch's generator."""
    records = run.data.splits["train"]
    repeats = max(1, min(EXAMPLES // len(records), WINDOWS_OF_RECORD))
    for _ in range(repeats):
        rows = torch.randperm(len(records))[:EXAMPLES]
        for part in torch.split(rows, AT_ONCE):
            start = torch.randint(records.samples - run.window + 1, (len(part),))
            yield records.take(part.to(run.device), run.window, start.to(run.device))


def _generated_figure(signals: NDArray[np.float32], fs: float, leads: tuple[str, ...]) -> Figure:
    """Draw signals that the model has made up."""
    titles = [f"generated {number + 1}" for number in range(len(signals))]
    return examples_figure(signals, fs, titles, leads=leads, dpi=72)
