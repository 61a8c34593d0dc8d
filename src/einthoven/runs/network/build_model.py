"""Build the classifier of a run: a fitted frontend, and a network with fresh weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from einthoven.build import build
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
from einthoven.data.store.splits import Split, free_memory
from einthoven.errors import UserError, first_line
from einthoven.functional.moments import LeadMoments
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.time_frontend import TimeFrontend
from einthoven.predict.limits import Shapes, check_numbers, construction_limits
from einthoven.predict.network import last_layer
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


WEIGHT_COPIES = 4
"""Copies of the weights in a training: the weights, their gradient and two moments."""

INIT_RECORDS = 64
"""Training records that an initialization may use."""

SIZE_ERRORS = (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError)
"""Errors by which PyTorch refuses wrong sizes."""


def build_model(
    config: DictConfig,
    train: Split,
    moments: LeadMoments,
    outputs: int,
    window: int,
    device: torch.device,
    seed: int,
    frontend: Frontend | TimeFrontend | None = None,
    shapes: Shapes | None = None,
) -> Classifier:
    """Fit the frontend on the training records, and build a network whose weights are drawn from the seed.

    The moments are those of the training records in mV. A given frontend is not fitted again. `shapes` are those of the
    stored weights that the network will get, if the configuration is that of a stored model. They limit the memory that
    the network may take.
    """
    # Fit the frontend. Some frontends need the records themselves, others only their moments.
    fit_frontend = build(config.pca)
    if frontend is None and "records" in inspect.signature(fit_frontend).parameters:
        frontend = fit_frontend(moments, records=(part * MILLIVOLT_PER_COUNT for part in train.chunks()))
    elif frontend is None:
        frontend = fit_frontend(moments)

    options = network_options(config, frontend, outputs, window)
    listed = ", ".join(f"{name}={value}" for name, value in config.model.items() if not str(name).startswith("_"))
    network_class = build(config.model).func
    if shapes is not None:
        check_numbers(options)
    with construction_limits(shapes, f"model: no network can be made of {listed}"):
        _check_memory(network_class, options, listed, device)

    torch.manual_seed(seed)
    first_rows = torch.arange(min(INIT_RECORDS, len(train)), device=device)
    try:
        with construction_limits(shapes, f"model: no network can be made of {listed}"):
            network = network_class(**options)
        model = Classifier(frontend, network).to(device)
        _try_forward(model, train.take(first_rows[:2], window))
        model.train()
    except SIZE_ERRORS as error:
        raise UserError(
            f"model: no network for {window} samples can be made of {listed} ({first_line(error)})."
        ) from error
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"model: {type(model.network).__name__} has no trainable parameter, so nothing can be trained.")
    build(config.init)(model.network, model.frontend(train.take(first_rows, window)))
    return model


@torch.no_grad()
def set_output_biases(model: Classifier, logits: Tensor) -> None:
    """Set the biases of the last layer to the logits (K,) that the training begins with.

    A network whose last layer is not linear, or has no biases, starts as it is, and a sentence says so.
    """
    layer = last_layer(model, len(logits))
    if layer is None or layer.bias is None:
        say(
            f"task.prior_bias has no effect: {type(model.network).__name__} does not end in a linear layer with a bias "
            f"for each of its {len(logits)} outputs."
        )
        return
    layer.bias.copy_(logits)


def _check_memory(
    network: Callable[..., nn.Module], options: Mapping[str, Any], listed: str, device: torch.device
) -> None:
    """Refuse a network whose training needs more memory than is free. Its weights are counted, not allocated."""
    try:
        with torch.device("meta"):
            weights = sum(parameter.numel() for parameter in network(**options).parameters())
    except SIZE_ERRORS:
        # `build_model` reports this error.
        return
    needed = 4 * WEIGHT_COPIES * weights
    if needed > free_memory(device):
        raise UserError(
            f"model: a network of {listed} has {weights:,} weights, and a training needs {needed >> 20:,} MiB for "
            f"them; {free_memory(device) >> 20:,} MiB are free. Expected smaller numbers."
        )


def _try_forward(model: Classifier, x: Tensor) -> None:
    """Pass two records through a model as an evaluation does, and through a copy as a training does.

    Some networks read another length in training, and check their dropout there. The copy protects the running
    statistics of the model. The state of the random numbers is restored.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        model.eval()(x)
        # `check_takes_one_record` reports a model that cannot train on one record.
        if len(x) > 1:
            deepcopy(model).train()(x)


def network_options(config: DictConfig, frontend: Frontend | TimeFrontend, outputs: int, window: int) -> dict[str, Any]:
    """Return all arguments of the network: from the configuration, the data and the frontend."""
    network: partial[nn.Module] = build(config.model)
    options: dict[str, Any] = {**network.keywords, "in_channels": frontend.out_channels, "num_classes": outputs}
    if "samples" in inspect.signature(network.func).parameters:
        options["samples"] = frontend.steps(window)
    # The network sees the sampling frequency after the frontend.
    if frontend.stride > 1 and options.get("fs"):
        options["fs"] /= frontend.stride
    return options


def describe_network(
    config: DictConfig, frontend: Frontend | TimeFrontend, outputs: int, window: int
) -> dict[str, Any]:
    """Describe frontend and network as `einthoven.predict.network.build` reads them, without a configuration.

    Only the shape of the frontend counts. `window` is in samples.
    """
    options: dict[str, Any] = {"in_channels": frontend.in_channels}
    if isinstance(frontend, TimeFrontend):
        k, width = frontend.projection.shape
        options |= {"k": k, "width": width, "stride": frontend.stride}
    else:
        options["out_channels"] = frontend.out_channels
    frontend_class = type(frontend)
    network = network_options(config, frontend, outputs, window)
    return {
        "frontend": {"class": f"{frontend_class.__module__}.{frontend_class.__qualname__}", "options": options},
        "network": {"class": str(config.model["_target_"]), "options": network},
    }
