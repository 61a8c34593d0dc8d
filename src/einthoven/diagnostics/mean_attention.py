"""Attention between shuffled pieces of ECGs: what is left of attention when only the positions of the tokens count."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError

CHUNK = 64  # records in one forward pass


@torch.no_grad()
def mean_attention(trained: Trained, *, records: int = 256, shuffles: int = 8, seed: int = 0) -> dict[str, Tensor]:
    """Return the attention maps of a network as means over records whose pieces are shuffled in time.

    A weight depends on the contents of two tokens and on their positions. Each record is cut into as many pieces as
    there are tokens, and the pieces are put into a random order. So every content occurs at every position, and in the
    mean the weights of two different tokens depend on their positions only.

    Parameters
    ----------
    trained
        A run whose network has attention maps.
    records
        Largest number of records. They are validation records or, without them, training records. If the network reads
        short windows, it takes the first window of each.
    shuffles
        Number of random orders of each record. 0: the records as they are.
    seed
        Seed of the orders.

    Returns
    -------
    dict
        ``map/<block>`` (heads, N, N): mean weights with which a token (row) attends to the others (columns). Rows sum
        to 1. The diagonal is the weight of a token to itself, which has the same content.

    Raises
    ------
    UserError
        If the network has no attention maps.
    """
    network = trained.model.network
    attention_maps: Callable[[Tensor], dict[str, Tensor]] | None = getattr(network, "attention_maps", None)
    if attention_maps is None:
        raise UserError(
            f"analysis=mean_attention: {type(network).__name__} has no attention maps; choose model=conv_attention or "
            "model=vit1d."
        )
    split = "val" if "val" in trained.records else "train"
    count = trained.records[split]
    rows = torch.linspace(0, count - 1, min(records, count)).long()
    generator = torch.Generator().manual_seed(seed)
    totals: dict[str, Tensor] = {}
    for chunk in torch.split(rows, CHUNK):
        x = trained.batch(split, chunk).x[..., : getattr(network, "window", None)]
        maps = attention_maps(trained.model.frontend(x))
        tokens = next(iter(maps.values())).shape[-1]
        for _ in range(max(shuffles, 1)):
            if shuffles:
                maps = attention_maps(trained.model.frontend(shuffle_pieces(x, tokens, generator)))
            for block, weights in maps.items():
                total = weights.double().sum(dim=0)
                totals[block] = totals[block] + total if block in totals else total
    return {f"map/{block}": total / (len(rows) * max(shuffles, 1)) for block, total in totals.items()}


def shuffle_pieces(x: Tensor, pieces: int, generator: torch.Generator) -> Tensor:
    """Cut signals ``[B, L, T]`` into pieces of equal length, and put those of each record into a random order.

    All leads of a record have the same order. If `pieces` does not divide T, the end of the record stays where it is.
    """
    records, leads, samples = x.shape
    length = -(-samples // pieces)
    whole = samples // length
    parts = x[..., : whole * length].reshape(records, leads, whole, length)
    order = torch.rand((records, whole), generator=generator).argsort(dim=1).to(x.device)
    shuffled = parts.gather(2, order[:, None, :, None].expand(-1, leads, -1, length))
    return torch.cat([shuffled.flatten(2), x[..., whole * length :]], dim=2)
