"""A bundle: one folder with all that a prediction takes, and nothing that would have to be run to read it.

``weights.safetensors`` holds the weights and the statistics of the training records' features; ``bundle.json`` the
rest: which network, which leads and rate, classes, calibration, thresholds, and what it was trained on. It contains the
SHA-256 of the weights and of itself, so that a damaged copy is noticed. No pickle, no Hydra, no MLflow.

A bundle can come from a stranger. `load` checks the description before it builds anything, and the network before it
reads the weights: a few bytes that ask for terabytes get one sentence.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from reprlib import repr as short
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration, learned, restored
from einthoven.evaluation.familiarity import Familiarity
from einthoven.files import BLANK, open_file, parse_json, read_file, safetensors_header, sealed_digest
from einthoven.models.frontend import Classifier
from einthoven.predict.description import check
from einthoven.predict.limits import Shapes, check_activations
from einthoven.predict.network import check_answer, construct, folded, last_layer, set_weights
from einthoven.predict.signal import Cut, Reads

FORMAT = 2
"""Number of the format: 2 has a hash of the text itself, 1 had one of its content."""

DESCRIPTION, WEIGHTS = "bundle.json", "weights.safetensors"
MOST_DESCRIPTION = 1 << 26
MOST_WEIGHTS = 1 << 32
_MODEL, _FAMILIAR, _ANCESTRY = "model.", "familiarity.", "ancestry."
_SEAL = re.compile(rb'"sha256": "([0-9a-f]{64})"\n}\n\Z')


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
    ancestry : Ancestry or None
        Signals that the model has seen. None in bundles of einthoven 0.1 and in that of the package.
    cuts : tuple of (str, float or None)
        How longer records were cut where it was trained, as in `einthoven.predict.signal.prepare`.
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
    ancestry: Ancestry | None = None
    cuts: tuple[Cut, ...] = ()
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
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        partial.mkdir()
        (partial / WEIGHTS).write_bytes(data)
        (partial / DESCRIPTION).write_bytes(sealed(description, data))
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
            "ancestry": None if self.ancestry is None else {"cuts": [list(cut) for cut in self.cuts]},
        }

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {f"{_MODEL}{name}": value for name, value in self.model.state_dict().items()}
        if self.familiarity is not None:
            for name in ("mean", "whitening"):
                tensors[f"{_FAMILIAR}{name}"] = torch.from_numpy(getattr(self.familiarity, name).astype(np.float32))
        if self.ancestry is not None:
            for name, digests in self.ancestry.arrays().items():
                tensors[f"{_ANCESTRY}{name}"] = torch.from_numpy(digests.copy())
        # copies of their own: the format refuses tensors that share memory, such as tied weights
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def load(folder: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    UserError
        If there is none, it is damaged, of a later format, names what is no network, or holds what no bundle holds.
    """
    try:
        return _read(folder)
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(str(folder)) else f"{folder}: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder}: a damaged bundle ({type(error).__name__}: {reason}).") from None
    except safetensors.SafetensorError as error:
        raise UserError(f"{folder}: a damaged bundle ({error}).") from None


def _read(folder: Path) -> Bundle:
    text = read_file(folder / DESCRIPTION, MOST_DESCRIPTION)
    description = parse_json(text, str(folder / DESCRIPTION))
    if not isinstance(description, dict) or description.get("format") not in (1, FORMAT):
        stated = short(description.get("format") if isinstance(description, dict) else description)
        raise UserError(f"{folder}: a bundle of format {stated}; this version reads the formats 1 to {FORMAT}.")
    with open_file(folder / WEIGHTS, MOST_WEIGHTS) as file:
        sha256 = _checked(text, description, hashlib.file_digest(file, "sha256").hexdigest())
        reads = check(description)
        model = _model(description, reads, _shapes(file, folder / WEIGHTS))
        file.seek(0)
        tensors = safetensors.torch.load(file.read())
    set_weights(model, {name.removeprefix(_MODEL): v for name, v in tensors.items() if name.startswith(_MODEL)})
    check_answer(model, len(reads.leads), reads.window, len(description["classes"]))
    return _bundle(description, reads, model, tensors, sha256)


def _checked(text: bytes, description: dict[str, Any], weights: str) -> str:
    """The hash of a bundle, after it was compared.

    Raises
    ------
    UserError
        If the content has another hash.
    """
    sha256 = description.pop("sha256", None)
    if description["format"] == 1:
        # The hash of format 1 is that of the description as Python writes it.
        canonical = json.dumps(description, sort_keys=True, ensure_ascii=False).encode()
        digest = hashlib.sha256(canonical + bytes.fromhex(weights)).hexdigest()
    else:
        seal = _SEAL.search(text)
        digest = sealed_digest(io.BytesIO(text), seal.start(1)) if seal else ""
    if sha256 != digest or (description["format"] > 1 and description.get("weights_sha256") != weights):
        raise UserError("damaged or changed: its content does not have the SHA-256 that it states.")
    return digest


def _shapes(file: io.BufferedReader, path: Path) -> Shapes:
    """Shapes of the tensors in a safetensors file, without reading them."""
    header = parse_json(safetensors_header(file, str(path))[8:], str(path))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def _model(description: Mapping[str, Any], reads: Reads, shapes: Shapes) -> Classifier:
    """The network of a description, before the weights are read.

    Raises
    ------
    UserError
        If the file has other tensors, or the network takes too much memory.
    """
    familiar, seen = set[str](), set[str]()
    if description["familiarity"] is not None:
        familiar = {f"{_FAMILIAR}{name}" for name in ("mean", "whitening")}
    if description.get("ancestry") is not None:
        seen = {f"{_ANCESTRY}{name}" for name in ("trained", "fitted")}
    needed = familiar | seen
    others = {name for name in shapes if not name.startswith(_MODEL)}
    if others != needed:
        raise UserError(f"the tensors {short(sorted(others))} beside those of the network; expected {sorted(needed)}.")
    own = {name.removeprefix(_MODEL): shape for name, shape in shapes.items() if name.startswith(_MODEL)}
    check_activations(own, reads)
    model = construct(description["model"], own)
    if familiar:
        layer = last_layer(model, len(description["classes"]))
        width = 0 if layer is None else layer.in_features
        stated = [shapes[f"{_FAMILIAR}{name}"] for name in ("mean", "whitening")]
        if stated != [(width,), (width, width)]:
            raise UserError(
                f"familiarity of the shapes {stated}; the last layer of the network reads {width} features."
            )
    return model


def _bundle(
    found: Mapping[str, Any], reads: Reads, model: Classifier, tensors: Mapping[str, torch.Tensor], sha256: str
) -> Bundle:
    classes, single_label = tuple(found["classes"]), found["output"] == "softmax"
    calibration = found["calibration"]
    familiarity = None
    if found["familiarity"] is not None:
        mean, whitening = (tensors[f"{_FAMILIAR}{name}"].numpy() for name in ("mean", "whitening"))
        if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
            raise UserError("familiarity has values that are not finite.")
        familiarity = Familiarity(mean, whitening, np.array(found["familiarity"]["held"]))
    ancestry, cuts = None, list[Cut]()
    if found.get("ancestry") is not None:
        parts = {name: value for name, value in tensors.items() if name.startswith(_ANCESTRY)}
        ancestry = Ancestry.from_arrays({name.removeprefix(_ANCESTRY): part.numpy() for name, part in parts.items()})
        cuts = [(rule, stride) for rule, stride in found["ancestry"]["cuts"]]
    return Bundle(
        model=model,
        parts=found["model"],
        reads=reads,
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
        ancestry=ancestry,
        cuts=tuple(cuts),
        sha256=sha256,
    )


def sealed(description: Mapping[str, Any], weights: bytes) -> bytes:
    """The text of ``bundle.json``: a description with the hash of the weights, and the hash of the text at its end."""
    content = {name: value for name, value in description.items() if name != "sha256"}
    content |= {"weights_sha256": hashlib.sha256(weights).hexdigest(), "sha256": BLANK.decode()}
    text = (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    seal = _SEAL.search(text)
    assert seal is not None
    digest = sealed_digest(io.BytesIO(text), seal.start(1)).encode()
    return text[: seal.start(1)] + digest + text[seal.end(1) :]


def _nullable(array: NDArray[np.float64]) -> Any:
    """Nested lists, with null for what is not a number."""
    return [_nullable(row) if row.ndim else (float(row) if np.isfinite(row) else None) for row in array]
