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
from einthoven.predict.limits import Construction, Shapes, as_sentence, check_numbers


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


def construct(parts: Mapping[str, Any], shapes: Shapes) -> Classifier:
    """Frontend and network with drawn weights, of the shapes of those in a file.

    torch's random numbers stay where they were.

    Raises
    ------
    UserError
        If no such network can be built, or it has weights of other shapes.
    """
    name = parts["network"]["class"]
    for part in ("frontend", "network"):
        trust.accepted(parts[part]["class"], "network")
    check_numbers([parts[part]["options"] for part in ("frontend", "network")])
    # A constructor that is ended inside of torch.no_grad would leave gradients off for the rest of the process.
    gradients_stay = torch.set_grad_enabled(torch.is_grad_enabled())
    random_stays = torch.random.fork_rng(devices=[])
    with random_stays, gradients_stay, as_sentence(f"{name}: cannot be built"), Construction(shapes):
        model = Classifier(build(parts["frontend"]), build(parts["network"]))  # type: ignore[arg-type]
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in sorted(expected.keys() | shapes.keys()):
        stated, needed = shapes.get(key, "missing"), expected.get(key, "missing")
        if stated != needed:
            raise UserError(
                f"the weights are not those of {name}: {key[:100]} is {stated} in the file and {needed} in the network."
            )
    return model


def set_weights(model: Classifier, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a network its weights, in single precision, and make it ready to predict.

    Raises
    ------
    UserError
        If a weight has another type, or a value that is not finite.
    """
    for key, needed in model.state_dict().items():
        value = weights[key]
        if value.is_floating_point() != needed.is_floating_point():
            raise UserError(f"{key} has values of the type {value.dtype}; expected {needed.dtype}.")
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{key} has values that are not finite.")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    model.eval()


def check_answer(model: Classifier, leads: int, samples: int, classes: int) -> None:
    """Refuse a network that cannot read one window, or does not answer with a finite number for each class.

    Raises
    ------
    UserError
    """
    with torch.inference_mode(), as_sentence("its network cannot read a window"):
        logits = model(torch.zeros((1, leads, samples)))
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
        answer = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"its network answers a window with {answer}; expected (1, {classes}): a value for each class.")
    if not bool(torch.isfinite(logits).all()):
        raise UserError("its network answers with values that are not finite.")


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
