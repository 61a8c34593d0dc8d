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
        If the network has no attention maps.
    """
    network = trained.model.network
    read: Callable[[Tensor], dict[str, Tensor]] | None = getattr(network, "attention_maps", None)
    if read is None:
        raise UserError(
            f"probe=attention: {type(network).__name__} has no attention maps; choose model=conv_attention or vit1d."
        )
    split = next(name for name in ("val", "test", "train") if name in trained.records)
    parts = [trained.batch(split, rows) for rows in torch.split(torch.arange(trained.records[split]), CHUNK)]
    y = torch.cat([part.y for part in parts])
    p = trained.task.activation(torch.cat([trained.model(part.x).float() for part in parts]))
    rows = surest(y, p)
    x = trained.batch(split, rows).x[..., : getattr(network, "window", None)]
    maps = read(trained.model.frontend(x))
    return {
        **{f"signal/{lead}": x[:, k] for k, lead in enumerate(trained.leads)},
        **{f"map/{block}": weights for block, weights in maps.items()},
        **{f"label/{name}": y[rows, k] for k, name in enumerate(trained.classes)},
        **{f"probability/{name}": p[rows, k] for k, name in enumerate(trained.classes)},
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
