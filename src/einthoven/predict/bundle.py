"""A bundle: one folder with all that a prediction takes, and nothing that would have to be run to read it.

``weights.safetensors`` holds the weights and the statistics of the training records' features; ``bundle.json`` the
rest: which network, which leads and rate, classes, calibration, thresholds, and what it was trained on. It carries a
SHA-256 of both, so that a damaged copy is noticed. No pickle, no Hydra, no MLflow.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration, learned, restored
from einthoven.evaluation.familiarity import Familiarity
from einthoven.models.frontend import Classifier
from einthoven.predict.network import classifier, folded
from einthoven.predict.signal import Reads

FORMAT = 1
DESCRIPTION, WEIGHTS = "bundle.json", "weights.safetensors"
_MODEL, _FAMILIAR = "model.", "familiarity."


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    model : Classifier
        mV ``[B, leads, window]`` to logits ``[B, K]``.
    parts : dict
        Description of frontend and network, as `einthoven.predict.network.build` takes it.
    reads : Reads
    classes : tuple of str
    single_label : bool
        Softmax over the classes, or a sigmoid for each.
    temperature : float
        Divisor of the logits in the task that it was trained for.
    calibration : Calibration
        Fitted, or `Uncalibrated`.
    method : str
        Its name.
    band : ndarray, shape (K, 2, 2), or None
        Covariance of the calibration line of each class (`einthoven.evaluation.band`).
    conformal : dict of float to float
        alpha -> the threshold of conformal risk control.
    points : dict
        class -> rule -> ``threshold`` and the rates that it was judged at.
    familiarity : Familiarity or None
    provenance : dict
        ``trained_on`` (a sentence), ``fitted_on``, ``metrics``, ``date``, ``versions``, ``run``, ``data``, ``config``.
    """

    model: Classifier
    parts: Mapping[str, Any]
    reads: Reads
    classes: tuple[str, ...]
    single_label: bool
    temperature: float
    calibration: Calibration
    method: str
    provenance: Mapping[str, Any]
    band: NDArray[np.float64] | None = None
    conformal: Mapping[float, float] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    familiarity: Familiarity | None = None
    sha256: str = ""

    @cached_property
    def answering(self) -> Classifier:
        """What predictions are made with: `model` as `einthoven.predict.network.folded` has it."""
        return folded(self.model)

    @property
    def notice(self) -> str:
        """What has to stand on everything that comes of it."""
        told = self.provenance["trained_on"]
        state = "not calibrated" if self.method == "none" else f"calibration: {self.method}"
        return f"Trained on {told}; {state}. Not for diagnosis."

    def save(self, folder: Path, half: bool = False) -> None:
        """Write the bundle; a folder of that name is replaced, and is at no time half of one and half of the other.

        With `half`, parameters are kept in half precision, which takes half the space: round them before they are
        calibrated. They are read as single precision.
        """
        description, weights = self._description(), self._tensors()
        if half:
            rounded = {f"{_MODEL}{name}" for name, _ in self.model.named_parameters()}
            weights = {name: value.half() if name in rounded else value for name, value in weights.items()}
        data = safetensors.torch.save(weights)
        description["sha256"] = _digest(description, data)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        (partial / WEIGHTS).write_bytes(data)
        (partial / DESCRIPTION).write_text(
            json.dumps(description, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        )
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "notice": self.notice,
            "provenance": dict(self.provenance),
            "model": dict(self.parts),
            "reads": {**asdict(self.reads), "leads": list(self.reads.leads), "unit": "mV"},
            "classes": list(self.classes),
            "output": "softmax" if self.single_label else "sigmoid",
            "temperature": self.temperature,
            "calibration": {"method": self.method, "learned": learned(self.calibration)},
            "band": None if self.band is None else _nullable(self.band),
            "conformal": [{"alpha": alpha, "threshold": value} for alpha, value in self.conformal.items()],
            "operating_points": {name: {r: dict(p) for r, p in of.items()} for name, of in self.points.items()},
            "familiarity": None if self.familiarity is None else {"held": self.familiarity.held.tolist()},
        }

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"{_MODEL}{name}": value for name, value in self.model.state_dict().items()}
        if self.familiarity is not None:
            for name in ("mean", "whitening"):
                tensors[f"{_FAMILIAR}{name}"] = torch.from_numpy(getattr(self.familiarity, name).astype(np.float32))
        # copies of their own: the format refuses tensors that share memory, such as tied weights
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def load(folder: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    UserError
        If there is none, it is damaged, of a later format, or names what is no network.
    """
    try:
        text, data = (folder / DESCRIPTION).read_bytes(), (folder / WEIGHTS).read_bytes()
    except OSError as error:
        name = os.path.basename(str(error.filename))  # noqa: PTH119
        raise UserError(f"{folder}: no bundle: {name} cannot be read ({error.strerror}).") from None
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise UserError(f"{folder}: a bundle of format {found['format']}; this version reads format {FORMAT}.")
        if found.pop("sha256") != (sha256 := _digest(found, data)):
            raise UserError(f"{folder}: damaged or changed: its content does not have the SHA-256 that it states.")
        tensors = safetensors.torch.load(data)
        return _bundle(found, tensors, sha256)
    except (KeyError, TypeError, ValueError, AttributeError, safetensors.SafetensorError) as error:
        raise UserError(f"{folder}: a damaged bundle ({type(error).__name__}: {error}).") from None
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(str(folder)) else f"{folder}: {error}") from None


def _bundle(found: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], sha256: str) -> Bundle:
    classes, single_label = tuple(found["classes"]), found["output"] == "softmax"
    reads = {name: value for name, value in found["reads"].items() if name != "unit"}
    calibration = found["calibration"]
    familiarity = None
    if found["familiarity"] is not None:
        mean, whitening = (tensors[f"{_FAMILIAR}{name}"].numpy() for name in ("mean", "whitening"))
        familiarity = Familiarity(mean, whitening, np.array(found["familiarity"]["held"]))
    weights = {name.removeprefix(_MODEL): value for name, value in tensors.items() if name.startswith(_MODEL)}
    return Bundle(
        model=classifier(found["model"], weights),
        parts=found["model"],
        reads=Reads(**{**reads, "leads": tuple(reads["leads"])}),
        classes=classes,
        single_label=single_label,
        temperature=float(found["temperature"]),
        calibration=restored(calibration["method"], classes, single_label, calibration["learned"]),
        method=calibration["method"],
        provenance=found["provenance"],
        band=None if found["band"] is None else np.array(found["band"], dtype=np.float64),
        conformal={float(item["alpha"]): float(item["threshold"]) for item in found["conformal"]},
        points=found["operating_points"],
        familiarity=familiarity,
        sha256=sha256,
    )


def _digest(description: Mapping[str, Any], weights: bytes) -> str:
    text = json.dumps(description, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha256(text + hashlib.sha256(weights).digest()).hexdigest()


def _nullable(array: NDArray[np.float64]) -> Any:
    """Nested lists, with null for what is not a number."""
    return [_nullable(row) if row.ndim else (float(row) if np.isfinite(row) else None) for row in array]
