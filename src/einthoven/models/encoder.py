"""The encoder of a network: all stages but the head. Its outputs are the embedding of a record.

The last stage of a network is called ``head``. It maps the embedding ``[B, D]`` to the outputs of a task. A new task
gets a new head and keeps the encoder. A network that also has the method ``tokens(x)`` gives the features of each time
step before pooling, ``[B, N, D]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy

from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.models.frontend import Classifier


def without_head(network: nn.Module) -> nn.Module:
    """Return the encoder of a network. It shares all its weights with the network.

    Raises
    ------
    UserError
        If the network has no head behind other stages.
    """
    *stages, last = dict(network.named_children())
    if last != "head" or not stages:
        raise UserError(
            f"{type(network).__name__}: its stages are {', '.join([*stages, last])}; expected an encoder and, as the "
            "last stage, a head."
        )
    encoder = copy(network)
    # The copy has a table of stages of its own, but the stages themselves are shared.
    encoder._modules = {**network._modules, "head": nn.Identity()}
    return encoder


def embed(model: Classifier, x: Tensor) -> Tensor:
    """Return the embeddings ``[B, D]`` of signals ``[B, leads, T]`` in mV: the inputs of the head.

    A network that reads windows gives the mean over its windows.

    Raises
    ------
    UserError
        If the network has no head behind other stages.
    """
    return without_head(model.network)(model.frontend(x))


def embed_tokens(model: Classifier, x: Tensor) -> Tensor:
    """Return the features of each time step ``[B, N, D]`` of signals ``[B, leads, T]`` in mV, before pooling.

    Raises
    ------
    UserError
        If the network has no time steps at its end.
    """
    read_tokens = check_tokens(model.network)
    return read_tokens(model.frontend(x))


def check_tokens(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the method of a network that gives its tokens.

    Raises
    ------
    UserError
        If the network has no time steps at its end.
    """
    read_tokens: Callable[[Tensor], Tensor] | None = getattr(network, "tokens", None)
    if read_tokens is None:
        raise UserError(
            f"{type(network).__name__}: has one embedding per record and no tokens; expected a network whose "
            "last stages before the head run along the time."
        )
    return read_tokens


def token_starts(model: Classifier, samples: int, tokens: int) -> list[int]:
    """Return the sample at which each token of `embed_tokens` begins.

    Every stage along the time keeps all steps or each s-th one, so that N = ceil(T / s) tokens are left of T steps. The
    distance s between two tokens is the smallest whole number with this property. The tokens of a network that reads
    windows begin anew in each window.

    Parameters
    ----------
    model : Classifier
    samples : int
        Length of the signal.
    tokens : int
        Number of tokens of the signal.
    """
    steps = model.frontend.steps(samples)
    network_pieces: Callable[[int], tuple[list[int], int]] | None = getattr(model.network, "pieces", None)
    starts, length = network_pieces(steps) if network_pieces else ([0], steps)
    tokens_per_piece = tokens // len(starts)
    distance = math.ceil(length / tokens_per_piece)
    return [
        (start + distance * number) * model.frontend.stride for start in starts for number in range(tokens_per_piece)
    ]


def embed_local_tokens(model: Classifier, x: Tensor) -> Tensor:
    """Return features ``[B, N, D]`` of signals ``[B, leads, T]`` in mV, each of which sees only the signal around it.

    Raises
    ------
    UserError
        If the network has no such features.
    """
    read_tokens: Callable[[Tensor], Tensor] | None = getattr(model.network, "local_tokens", None)
    if read_tokens is None:
        raise UserError(
            f"{type(model.network).__name__}: its tokens see the whole window; expected a network of convolutions, "
            "such as conv_attention or xresnet1d18."
        )
    return read_tokens(model.frontend(x))
