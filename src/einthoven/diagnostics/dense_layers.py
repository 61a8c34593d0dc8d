"""The layers of a dense network with records on which it can be computed again, for figures that change its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.models.mlp import MLP, DenseLayer


@torch.no_grad()
def dense_layers(trained: Trained, *, records: int = 256) -> dict[str, Tensor]:
    """Return the layers of a network of dense layers with ReLU, and the inputs of its first layer for some records.

    The records are training records: the valleys and barriers of a loss are those of the loss that was minimized.

    Parameters
    ----------
    trained
        A run of ``model=mlp model.norm=none model.skip=false model.activation=relu`` with several labels.
    records
        Largest number of training records, evenly spread.

    Returns
    -------
    dict
        ``weight/1`` (outputs, inputs) and ``bias/1`` (outputs,), and so on for each layer; ``inputs`` (n, d) and
        ``labels`` (n, K) of the records; ``loss``, their mean loss in the training task.

    Raises
    ------
    UserError
        If the network has other layers, or the task has a single label.
    """
    network = trained.model.network
    hidden = list(network.children())[:-1]
    is_plain = isinstance(network, MLP) and all(_is_plain(layer) for layer in hidden)
    if not is_plain or getattr(trained.task, "single_label", False):
        raise UserError(
            f"analysis=dense_layers: {type(network).__name__} is not a chain of dense layers with several labels; "
            "expected model=mlp model.norm=none model.skip=false model.activation=relu."
        )
    linear_layers = [layer.linear for layer in hidden if isinstance(layer, DenseLayer)]
    assert isinstance(network, MLP)
    count = trained.records["train"]
    batch = trained.batch("train", torch.linspace(0, count - 1, min(records, count)).long())
    loss, _ = trained.task.loss(trained.model, batch)
    arrays = {
        "inputs": trained.model.frontend(batch.x).flatten(1),
        "labels": trained.task.goal(batch),
        "loss": loss,
    }
    for number, layer in enumerate([*linear_layers, network.head], 1):
        arrays[f"weight/{number}"] = layer.weight.detach()
        arrays[f"bias/{number}"] = layer.bias.detach()
    return arrays


def _is_plain(layer: nn.Module) -> bool:
    """Return whether a hidden layer is linear and a ReLU, and nothing else in evaluation mode."""
    return (
        isinstance(layer, DenseLayer)
        and isinstance(layer.norm, nn.Identity)
        and isinstance(layer.act, nn.ReLU)
        and not layer.skip
    )
