"""A network out of its description: the name of a class of `einthoven.models` or `torch.nn`, and plain options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from einthoven import trust
from einthoven.errors import UserError
from einthoven.models.blocks import ConvNormAct
from einthoven.models.frontend import Classifier


def build(part: Mapping[str, Any]) -> nn.Module:
    """Build ``{"class": name, "options": {…}}``.

    Raises
    ------
    UserError
        If the name is not that of a network's class, or the options do not fit it.
    """
    name = part["class"]
    options = dict(part["options"])
    make = trust.accepted(name, "network")
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        raise UserError(f"{name}: its options do not fit ({error}).") from None
    network: nn.Module = make(**options)
    return network


def classifier(parts: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> Classifier:
    """Frontend and network with their weights, ready to predict; torch's random numbers stay where they were.

    Raises
    ------
    UserError
        If the weights are not those of such a network.
    """
    with torch.random.fork_rng(devices=[]):  # weights are drawn, to be replaced
        model = Classifier(build(parts["frontend"]), build(parts["network"]))  # type: ignore[arg-type]
    try:
        model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except RuntimeError as error:
        raise UserError(f"the weights are not those of {parts['network']['class']}: {_short(error)}.") from None
    return model.eval()


def folded(model: Classifier) -> Classifier:
    """A copy in which the batch norm after a convolution is part of the convolution: the same numbers, sooner."""
    model = deepcopy(model).eval()
    for part in model.modules():
        if isinstance(part, ConvNormAct) and isinstance(part.norm, nn.BatchNorm2d):
            part.conv, part.norm = fuse_conv_bn_eval(part.conv, part.norm), nn.Identity().eval()
    return model


def last_layer(model: Classifier, classes: int) -> nn.Linear | None:
    """The linear layer that gives the logits, if there is one: what it reads are the features of a record."""
    layers = [m for m in model.network.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    return layers[-1] if layers else None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
