"""Networks from the description in a bundle: the name of a class of `einthoven.models` or `torch.nn`, and options."""

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
from einthoven.models.readout import Readout
from einthoven.predict.limits import ConstructionLimits, Shapes, check_numbers, one_sentence


def build(part: Mapping[str, Any]) -> nn.Module:
    """Build ``{"class": name, "options": {…}}``.

    Raises
    ------
    UserError
        If the name is not that of the class of a network, or the options do not fit it.
    """
    name = part["class"]
    options = dict(part["options"])
    constructor = trust.find_target(name, "network")
    try:
        inspect.signature(constructor).bind(**options)
    except TypeError as error:
        raise UserError(f"{name}: its options do not fit ({error}).") from None
    return constructor(**options)


def build_classifier(parts: Mapping[str, Any], shapes: Shapes) -> Classifier:
    """Build frontend and network with random weights. The random state of torch does not change.

    Parameters
    ----------
    parts : mapping
        ``frontend`` and ``network``, as in `build`. ``readout``, if there is one: the options of a `Readout`.
    shapes : mapping of str to tuple of int
        Shapes of the weights in the file.

    Raises
    ------
    UserError
        If no such network can be built, or its weights have other shapes.
    """
    name = parts["network"]["class"]
    for part in ("frontend", "network"):
        trust.find_target(parts[part]["class"], "network")
    check_numbers([parts["frontend"]["options"], parts["network"]["options"]])

    # It has no weights. The check of the description limits its size.
    readout = Readout(**parts["readout"]) if "readout" in parts else None

    # A constructor that is interrupted inside of torch.no_grad would leave gradients off for the rest of the process.
    keep_gradients = torch.set_grad_enabled(torch.is_grad_enabled())
    keep_random_state = torch.random.fork_rng(devices=[])
    with keep_random_state, keep_gradients, one_sentence(f"{name}: cannot be built"), ConstructionLimits(shapes):
        model = Classifier(build(parts["frontend"]), build(parts["network"]), readout)  # type: ignore[arg-type]

    model_shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    for key in sorted(model_shapes.keys() | shapes.keys()):
        in_file = shapes.get(key, "missing")
        in_model = model_shapes.get(key, "missing")
        if in_file != in_model:
            raise UserError(
                f"the weights are not those of {name}: {key[:100]} is {in_file} in the file and {in_model} in the "
                "network."
            )
    return model


def set_weights(model: Classifier, weights: Mapping[str, torch.Tensor]) -> None:
    """Load weights into a network in single precision, and switch it to evaluation mode.

    Raises
    ------
    UserError
        If a weight has another type, or a value that is not finite.
    """
    for key, parameter in model.state_dict().items():
        value = weights[key]
        if value.is_floating_point() != parameter.is_floating_point():
            raise UserError(f"{key} has values of the type {value.dtype}; expected {parameter.dtype}.")
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"{key} has values that are not finite.")
    single = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    model.load_state_dict(single)
    model.eval()


def check_output(model: Classifier, leads: int, samples: int, classes: int) -> None:
    """Refuse a network that cannot read one window, or whose output is not one finite number for each class.

    Raises
    ------
    UserError
    """
    with torch.inference_mode(), one_sentence("its network cannot read a window"):
        logits = model(torch.zeros((1, leads, samples)))
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, classes):
        output = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(f"its network answers a window with {output}; expected (1, {classes}): a value for each class.")
    if not bool(torch.isfinite(logits).all()):
        raise UserError("its network answers with values that are not finite.")


def fold_batch_norm(model: Classifier) -> Classifier:
    """Return a copy in which the batch norm after a convolution is part of the convolution.

    Its outputs are equal up to rounding, and it is faster.
    """
    model = deepcopy(model).eval()
    for module in model.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity().eval()
    return model


def last_layer(model: Classifier, classes: int) -> nn.Linear | None:
    """Return the linear layer that computes the logits, or None. Its inputs are the features of a record."""
    outputs = classes if model.readout is None else len(model.readout.statements)
    layers = [m for m in model.network.modules() if isinstance(m, nn.Linear) and m.out_features == outputs]
    return layers[-1] if layers else None
