"""Where a network with attention looks, in one record of each class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError

CHUNK = 256  # records at a time


@torch.no_grad()
def attention(trained: Trained) -> dict[str, Tensor]:
    """Attention maps of one validation record of each class: of those with this label alone, the surest.

    Without validation records, of a test record. A network that reads short windows is asked about the first of them.

    Returns
    -------
    dict
        Of R records, one row each: ``signal/<lead>`` (R, T) in mV; ``map/<block>`` (R, heads, N, N), the weights with
        which a token (row) reads the others (columns); ``label/<class>`` and ``probability/<class>`` (R,). And ``fs``.

    Raises
    ------
    UserError
        If the network has no attention maps, or there are no such records.
    """
    network = trained.model.network
    read: Callable[[Tensor], dict[str, Tensor]] | None = getattr(network, "attention_maps", None)
    if read is None:
        raise UserError(
            f"probe=attention: {type(network).__name__} has no attention maps; choose model=conv_attention or vit1d."
        )
    split = next(name for name in ("val", "test", "train") if name in trained.records)
    y, p = [], []
    for rows in torch.split(torch.arange(trained.records[split]), CHUNK):
        part = trained.batch(split, rows)
        y.append(part.y)
        p.append(trained.task.activation(trained.model(part.x).float()))
    label, probability = torch.cat(y), torch.cat(p)
    rows = surest(label, probability)
    if not len(rows):
        raise UserError(f"probe=attention: no {split} record has one class alone.")
    x = trained.batch(split, rows).x[..., : getattr(network, "window", None)]
    maps = read(trained.model.frontend(x))
    return {
        **{f"signal/{lead}": x[:, k] for k, lead in enumerate(trained.leads)},
        **{f"map/{block}": weights for block, weights in maps.items()},
        **{f"label/{name}": label[rows, k] for k, name in enumerate(trained.classes)},
        **{f"probability/{name}": probability[rows, k] for k, name in enumerate(trained.classes)},
        "fs": torch.tensor(trained.fs),
    }


def surest(y: Tensor, p: Tensor) -> Tensor:
    """Of each class, the record with this label alone that has the highest probability of it; none where there is none.

    Parameters
    ----------
    y, p : Tensor (n, K)
        Labels and probabilities.
    """
    alone = (y == 1) & (y.sum(dim=1, keepdim=True) == 1)
    ranked = torch.where(alone, p, -1.0)
    return ranked.argmax(dim=0)[alone.any(dim=0)]
