"""Attention maps of a network, for one record of each class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError

CHUNK = 256  # records in one forward pass


@torch.no_grad()
def attention(trained: Trained) -> dict[str, Tensor]:
    """Return the attention maps of one validation record of each class.

    For each class, it takes the records with this label alone, and of these the one with the highest probability.
    Without validation records, it takes test records. If the network reads short windows, it takes the first window.

    Returns
    -------
    dict
        Arrays with one row for each of R records: ``signal/<lead>`` (R, T) in mV; ``map/<block>`` (R, heads, N, N),
        the weights with which a token (row) attends to the others (columns); ``label/<class>`` and
        ``probability/<class>`` (R,). Also ``fs``, the sampling frequency in Hz.

    Raises
    ------
    UserError
        If the network has no attention maps, or no record has one label alone.
    """
    network = trained.model.network
    attention_maps: Callable[[Tensor], dict[str, Tensor]] | None = getattr(network, "attention_maps", None)
    if attention_maps is None:
        raise UserError(
            f"analysis=attention: {type(network).__name__} has no attention maps; choose model=conv_attention or "
            "model=vit1d."
        )

    # The probabilities of all records decide which records to take.
    split = next(name for name in ("val", "test", "train") if name in trained.records)
    labels = []
    probabilities = []
    for chunk in torch.split(torch.arange(trained.records[split]), CHUNK):
        batch = trained.batch(split, chunk)
        labels.append(trained.task.goal(batch))
        probabilities.append(trained.task.activation(trained.model(batch.x).float()))
    label = torch.cat(labels)
    probability = torch.cat(probabilities)
    rows = surest(label, probability)
    if not len(rows):
        raise UserError(f"analysis=attention: no {split} record has one class alone.")

    x = trained.batch(split, rows).x[..., : getattr(network, "window", None)]
    maps = attention_maps(trained.model.frontend(x))
    return {
        **{f"signal/{lead}": x[:, k] for k, lead in enumerate(trained.leads)},
        **{f"map/{block}": weights for block, weights in maps.items()},
        **{f"label/{name}": label[rows, k] for k, name in enumerate(trained.classes)},
        **{f"probability/{name}": probability[rows, k] for k, name in enumerate(trained.classes)},
        "fs": torch.tensor(trained.fs),
    }


def surest(y: Tensor, p: Tensor) -> Tensor:
    """Return, for each class, the row with this label alone that has the highest probability of the class.

    Classes without such a row are left out.

    Parameters
    ----------
    y, p : Tensor (n, K)
        Labels and probabilities.
    """
    is_alone = (y == 1) & (y.sum(dim=1, keepdim=True) == 1)
    ranked = torch.where(is_alone, p, -1.0)
    return ranked.argmax(dim=0)[is_alone.any(dim=0)]
