"""Export of a bundle as one file for other runtimes: from mV to calibrated probabilities."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from einthoven.atomic import atomic, explain_write
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
"""Probabilities are clipped to [1e-12, 1 - 1e-12] before the logarithm."""


class Pipeline(nn.Module):
    """The whole prediction as one module: mV (n, L, T) -> windows -> classifier -> predictions (n, K).

    Parameters
    ----------
    classifier : nn.Module
    activation : callable
        Outputs -> probabilities, or a quantity.
    window, stride, aggregate
        As in `einthoven.functional.windows`.
    finish : callable
        Predictions of records (n, K) -> reported predictions (n, K), such as calibrated probabilities.
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
        self.classifier = classifier
        self.activation = activation
        self.window = window
        self.stride = stride
        self.aggregate = aggregate
        self.finish = finish

    def forward(self, signal: Tensor) -> Tensor:
        """Return the probability of each class, or a quantity in its unit."""
        logits = apply_to_windows(self.classifier, signal, self.window, self.stride)
        predictions = aggregate_windows(self.activation(logits), self.aggregate)
        return self.finish(predictions).to(logits.dtype)


class _Affine(nn.Module):
    """Temperature, vector and prior-shift calibration: a slope and an offset for each class, on the logit scale."""

    slope: Tensor
    offset: Tensor

    def __init__(self, slope: Tensor, offset: Tensor, single_label: bool) -> None:
        super().__init__()
        self.single_label = single_label
        self.register_buffer("slope", slope.double())
        self.register_buffer("offset", offset.double())

    def forward(self, p: Tensor) -> Tensor:
        """Probabilities (n, K) -> probabilities (n, K)."""
        p = p.clamp(_TINY, 1 - _TINY)
        if self.single_label:
            return (p.log() * self.slope + self.offset).softmax(dim=-1)
        logits = p.log() - (1 - p).log()
        return (logits * self.slope + self.offset).sigmoid()


class Curves(nn.Module):
    """Isotonic calibration: a curve for each class, linear between its points and constant beyond them."""

    stated: Tensor
    observed: Tensor

    def __init__(self, stated: list[FloatArray], observed: list[FloatArray], single_label: bool) -> None:
        super().__init__()
        self.single_label = single_label
        # The curves become one array. Curves with fewer points repeat their last point.
        points = max(map(len, stated))
        for name, curves in (("stated", stated), ("observed", observed)):
            padded = np.stack([np.pad(curve, (0, points - len(curve)), mode="edge") for curve in curves])
            self.register_buffer(name, torch.from_numpy(padded))

    def forward(self, p: Tensor) -> Tensor:
        """Probabilities (n, K) -> probabilities (n, K)."""
        # The point to the right of each probability; the segment begins at the point before it.
        right = (p.unsqueeze(-1) >= self.stated).sum(dim=-1).clamp(1, self.stated.shape[1] - 1)
        low = _points_at(self.stated, right - 1)
        high = _points_at(self.stated, right)
        share = ((p - low) / (high - low).clamp_min(1e-300)).clamp(0.0, 1.0)
        calibrated = _points_at(self.observed, right - 1) * (1 - share) + _points_at(self.observed, right) * share
        if self.single_label:
            return calibrated / calibrated.sum(dim=-1, keepdim=True)
        return calibrated


def _points_at(curves: Tensor, index: Tensor) -> Tensor:
    """Return the points of curves (K, points) at an index (n, K)."""
    return curves.expand(index.shape[0], -1, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _build_pipeline(bundle: Bundle) -> Pipeline:
    """Return a bundle as one module: mV (n, L, T) to calibrated probabilities (n, K), float32."""
    calibration = _calibration_module(bundle)
    activation = outputs.softmax if bundle.single_label else outputs.sigmoid

    def probabilities(logits: Tensor) -> Tensor:
        return activation(logits if calibration is None else logits.double(), bundle.temperature)

    return Pipeline(
        deepcopy(bundle.model).cpu(),
        probabilities,
        bundle.input_format.window,
        bundle.input_format.stride,
        bundle.input_format.aggregate,
        calibration or nn.Identity(),
    ).eval()


def export(bundle: Bundle, path: Path) -> None:
    """Write a ``.pt2`` (``torch.export``) or ``.onnx`` file with the input ``signal``: (n, L, T) float32 in mV, any n.

    The file also contains the notice of the bundle, its classes, leads and sampling frequency: a pt2 file in the extra
    file ``einthoven.json``, an ONNX file in the metadata of the model.

    Raises
    ------
    UserError
        If the file has another suffix, a package is missing, the network is not in `ONNX`, or the bundle answers with
        the mean of a network and other models.
    """
    if bundle.members:
        raise UserError(
            f"{path.name}: this bundle answers with the mean of a network and a model of ECG measurements, which needs "
            "this package; expected a bundle of a network, or `einthoven.predict.groups.network_alone` of this one."
        )
    notes = {
        "notice": bundle.notice,
        "classes": "\n".join(bundle.classes),
        "leads": " ".join(bundle.input_format.leads),
        "fs": f"{bundle.input_format.fs:g}",
        "unit": "mV",
        "sha256": bundle.sha256,
    }
    leads = len(bundle.input_format.leads)
    samples = bundle.input_format.samples
    with atomic(path) as partial:
        if path.suffix == ".pt2":
            write_program(_build_pipeline(bundle), leads, samples, partial, notes)
        elif path.suffix == ".onnx":
            _write_onnx(bundle, _example_input(leads, samples), notes, partial)
        else:
            raise UserError(f"{path.name}: expected a file that ends in .pt2 or .onnx.")


def write_program(
    module: nn.Module, leads: int, samples: int, path: Path, notes: Mapping[str, str] | None = None
) -> None:
    """Write a module that reads mV ``(n, leads, samples)`` as a torch program (``.pt2``) without pickled parts.

    torch would pickle the example input, and store the paths of source files. Both are removed.

    Parameters
    ----------
    module : Module
    leads, samples : int
        Shape of a record.
    path : Path
    notes : mapping of str to str, optional
        Contents of the extra file ``einthoven.json``.
    """
    n = torch.export.Dim("n", min=1)
    program = torch.export.export(module, (_example_input(leads, samples),), dynamic_shapes={"signal": {0: n}})
    program.example_inputs = None
    for module_part in program.graph_module.modules():
        if isinstance(module_part, torch.fx.GraphModule):
            for node in module_part.graph.nodes:
                node.meta = {name: value for name, value in node.meta.items() if name == "val"}
    # If torch writes the file itself and the disk is full, it aborts the process.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"einthoven.json": json.dumps(notes or {})})
    with explain_write(path, path):
        path.write_bytes(content.getbuffer())


def load_program(path: Path) -> nn.Module:
    """Load a program that `write_program` has written. A file that could run code is refused before torch reads it.

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


def _example_input(leads: int, samples: int) -> Tensor:
    # With one record, torch would fix n at one.
    return torch.zeros((2, leads, samples))


def _write_onnx(bundle: Bundle, example: Tensor, notes: dict[str, str], path: Path) -> None:
    name = bundle.parts["network"]["class"].rpartition(".")[2]
    if name not in ONNX:
        raise UserError(f"{name}: no ONNX export; expected {', '.join(sorted(ONNX))}, or a .pt2 file.")
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch imports it)
    except ModuleNotFoundError as error:
        raise UserError(f"{path.suffix}: needs the package {error.name}; install einthoven[onnx].") from None
    n = torch.export.Dim("n", min=1)
    with _without_remarks():
        program = torch.onnx.export(
            _build_pipeline(bundle),
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


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep torch from printing that it does not find torchvision, and that it calls an old function of its own."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _calibration_module(bundle: Bundle) -> nn.Module | None:
    """Return the calibration of a bundle as a module of float64 probabilities (n, K); None if it is not calibrated."""
    calibration = bundle.calibration
    ones = torch.ones(len(bundle.classes), dtype=torch.float64)
    if isinstance(calibration, Temperature):
        return _Affine(ones / float(calibration.temperature_), 0 * ones, bundle.single_label)
    if isinstance(calibration, Vector):
        slope = torch.from_numpy(calibration.slope_)
        offset = torch.from_numpy(calibration.offset_)
        return _Affine(slope, offset, bundle.single_label)
    if isinstance(calibration, PriorShift):
        return _Affine(ones, torch.from_numpy(calibration.shift), bundle.single_label)
    if isinstance(calibration, Isotonic):
        return Curves(calibration.stated_, calibration.observed_, bundle.single_label)
    return None
