"""A bundle as one file for other runtimes: millivolts in, calibrated probabilities out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from einthoven.atomic import atomic
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Isotonic, PriorShift, Temperature, Vector
from einthoven.evaluation.metrics import FloatArray
from einthoven.functional import outputs
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.predict.bundle import Bundle
from einthoven.tracking import served

ONNX = frozenset({"ConvAttention", "XResNet1d", "Inception1d", "fcn_wang", "resnet1d_wang", "Logistic", "MLP"})
"""Networks whose ONNX export is tested: the default, the convolutional ones, and the plain baselines."""

_TINY = 1e-12


class Pipeline(nn.Module):
    """What a run reports, as one module: raw mV (n, L, T) -> windows -> classifier -> predictions (n, K).

    Parameters
    ----------
    classifier : nn.Module
    activation : callable
        Outputs -> probabilities, or a quantity.
    window, stride : int
        Samples.
    aggregate : str
        ``mean`` or ``max`` over the windows.
    finish : callable
        Predictions of records (n, K) -> those that are told, such as calibrated ones.
    """

    def __init__(
        self,
        classifier: nn.Module,
        activation: Callable[[Tensor], Tensor],
        window: int,
        stride: int,
        aggregate: str,
        finish: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.classifier, self.activation, self.finish = classifier, activation, finish
        self.window, self.stride, self.aggregate = window, stride, aggregate

    def forward(self, signal: Tensor) -> Tensor:
        """Probabilities of each class, or a quantity in its unit."""
        logits = apply_to_windows(self.classifier, signal, self.window, self.stride)
        predictions = aggregate_windows(self.activation(logits), self.aggregate)
        return self.finish(predictions).to(logits.dtype)


class Affine(nn.Module):
    """A slope and an offset for each class, on the logit scale: temperature, vector and prior shift are such."""

    slope: Tensor
    offset: Tensor

    def __init__(self, slope: Tensor, offset: Tensor, single_label: bool) -> None:
        super().__init__()
        self.single_label = single_label
        self.register_buffer("slope", slope.double())
        self.register_buffer("offset", offset.double())

    def forward(self, p: Tensor) -> Tensor:
        """Probabilities (n, K) -> probabilities (n, K)."""
        inside = p.clamp(_TINY, 1 - _TINY)
        z = inside.log() if self.single_label else inside.log() - (1 - inside).log()
        z = z * self.slope + self.offset
        return z.softmax(dim=-1) if self.single_label else z.sigmoid()


class Curves(nn.Module):
    """A curve for each class, linear between its points and flat beyond them: isotonic calibration."""

    stated: Tensor
    observed: Tensor

    def __init__(self, stated: list[FloatArray], observed: list[FloatArray], single_label: bool) -> None:
        super().__init__()
        self.single_label = single_label
        most = max(map(len, stated))
        # classes with fewer points repeat their last
        for name, curves in (("stated", stated), ("observed", observed)):
            padded = np.stack([np.pad(curve, (0, most - len(curve)), mode="edge") for curve in curves])
            self.register_buffer(name, torch.from_numpy(padded))

    def forward(self, p: Tensor) -> Tensor:
        """Probabilities (n, K) -> probabilities (n, K)."""
        right = (p.unsqueeze(-1) >= self.stated).sum(dim=-1).clamp(1, self.stated.shape[1] - 1)
        risen = self._between(p, right)
        return risen / risen.sum(dim=-1, keepdim=True) if self.single_label else risen

    def _between(self, p: Tensor, right: Tensor) -> Tensor:
        def at(curves: Tensor, index: Tensor) -> Tensor:
            return curves.expand(p.shape[0], -1, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)

        low, high = at(self.stated, right - 1), at(self.stated, right)
        share = ((p - low) / (high - low).clamp_min(1e-300)).clamp(0.0, 1.0)
        return at(self.observed, right - 1) * (1 - share) + at(self.observed, right) * share


def exported(bundle: Bundle) -> Pipeline:
    """The bundle as one module: mV (n, L, T) -> calibrated probabilities (n, K), float32."""
    reads, calibration = bundle.reads, calibration_module(bundle)
    activation = outputs.softmax if bundle.single_label else outputs.sigmoid

    def probabilities(logits: Tensor) -> Tensor:
        return activation(logits if calibration is None else logits.double(), bundle.temperature)

    model, finish = deepcopy(bundle.model).cpu(), calibration or nn.Identity()
    return Pipeline(model, probabilities, reads.window, reads.stride, reads.aggregate, finish).eval()


def export(bundle: Bundle, path: Path) -> None:
    """Write ``.pt2`` (``torch.export``) or ``.onnx``: input ``signal`` (n, L, T) float32 in mV, any n.

    Beside the answer, the file says what it reads and what it was trained on: in a pt2 file as the extra file
    ``einthoven.json``, in ONNX as metadata of the model.

    Raises
    ------
    UserError
        If the suffix is another, a package is missing, or the network is not one of `ONNX`.
    """
    notes = {
        "notice": bundle.notice,
        "classes": "\n".join(bundle.classes),
        "leads": " ".join(bundle.reads.leads),
        "fs": f"{bundle.reads.fs:g}",
        "unit": "mV",
        "sha256": bundle.sha256,
    }
    leads, samples = len(bundle.reads.leads), bundle.reads.samples
    with atomic(path) as partial:
        if path.suffix == ".pt2":
            write_program(exported(bundle), leads, samples, partial, notes)
        elif path.suffix == ".onnx":
            _to_onnx(bundle, _example(leads, samples), notes, partial)
        else:
            raise UserError(f"{path.name}: expected a file that ends in .pt2 or .onnx.")


def write_program(
    module: nn.Module, leads: int, samples: int, path: Path, notes: Mapping[str, str] | None = None
) -> None:
    """Write a module that reads mV ``(n, leads, samples)`` as a program of torch (``.pt2``), without pickled parts.

    torch would pickle the example, and keep the paths of source files.

    Parameters
    ----------
    module : Module
    leads, samples : int
        Of a record.
    path : Path
    notes : mapping of str to str, optional
        Contents of the extra file ``einthoven.json``.
    """
    n = torch.export.Dim("n", min=1)
    program = torch.export.export(module, (_example(leads, samples),), dynamic_shapes={"signal": {0: n}})
    program.example_inputs = None
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, torch.fx.GraphModule) else ():
            node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    torch.export.save(program, str(path), extra_files={"einthoven.json": json.dumps(notes or {})})


def load_program(path: Path) -> nn.Module:
    """Load a program that `write_program` has written; one that could run code is refused before torch reads it.

    Returns
    -------
    Module
        mV ``(n, leads, samples)`` to probabilities, or quantities, ``(n, K)``.

    Raises
    ------
    UserError
    """
    try:
        return served.load(path)
    except ValueError as error:
        raise UserError(str(error)) from None


def _example(leads: int, samples: int) -> Tensor:
    return torch.zeros((2, leads, samples))  # of one record, n would be fixed at one


def _to_onnx(bundle: Bundle, example: Tensor, notes: dict[str, str], path: Path) -> None:
    name = bundle.parts["network"]["class"].rpartition(".")[2]
    if name not in ONNX:
        raise UserError(f"{name}: no ONNX export; there is one of {', '.join(sorted(ONNX))}, and .pt2 of all.")
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch asks for it)
    except ModuleNotFoundError as error:
        raise UserError(f"{path.suffix}: takes the package {error.name}; install einthoven[onnx].") from None
    n = torch.export.Dim("n", min=1)
    program = torch.onnx.export(
        exported(bundle),
        (example,),
        dynamo=True,
        dynamic_shapes={"signal": {0: n}},
        input_names=["signal"],
        output_names=["probabilities"],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, notes)
    onnx.save_model(model, str(path))


def calibration_module(bundle: Bundle) -> nn.Module | None:
    """The calibration of a bundle: probabilities (n, K) -> probabilities (n, K), float64; None where there is none."""
    fitted, ones = bundle.calibration, torch.ones(len(bundle.classes), dtype=torch.float64)
    if isinstance(fitted, Temperature):
        return Affine(ones / float(fitted.temperature_), 0 * ones, bundle.single_label)
    if isinstance(fitted, Vector):
        return Affine(torch.from_numpy(fitted.slope_), torch.from_numpy(fitted.offset_), bundle.single_label)
    if isinstance(fitted, PriorShift):
        return Affine(ones, torch.from_numpy(fitted.shift), bundle.single_label)
    if isinstance(fitted, Isotonic):
        return Curves(fitted.stated_, fitted.observed_, bundle.single_label)
    return None
