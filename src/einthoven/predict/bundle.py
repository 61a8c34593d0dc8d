"""A bundle: one folder that contains everything that a prediction needs, and no code.

``weights.safetensors`` contains the weights, the statistics of the features of the training records, and the trees of
gradient boosting if the bundle answers with the mean of both. ``bundle.json`` contains the rest: the class and options
of the network, leads and sampling frequency, classes, calibration, thresholds, and what the model was trained on. It
also contains the SHA-256 of the weights and of itself, so that a damaged copy is detected
(`einthoven.predict.sealed_folder`). A bundle needs no pickle, no Hydra, no MLflow and no scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from einthoven.data.ancestry import FIRST_LISTS, LISTS, Ancestry
from einthoven.data.fitted_on import fitted_records
from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration
from einthoven.evaluation.calibration_state import fitted_state, restore_calibration
from einthoven.evaluation.familiarity import Familiarity
from einthoven.models.frontend import Classifier
from einthoven.predict.description import check_description
from einthoven.predict.limits import Shapes, check_activations
from einthoven.predict.missing_lead import MissingLead
from einthoven.predict.network import build_classifier, check_output, fold_batch_norm, last_layer, set_weights
from einthoven.predict.refusal import Refusal
from einthoven.predict.sealed_folder import FORMAT, WEIGHTS, read_sealed_folder, replace_folder, seal_description
from einthoven.predict.signal import Cut, InputFormat
from einthoven.predict.tree_member import PREFIX, TreeMember, check_features, restore_member, tensor_names

DESCRIPTION = "bundle.json"

ALL_LISTS_FORMAT = 3
"""From this format on, a bundle has all lists of an ancestry."""

LARGEST_HALF = 65_504.0
"""Largest number in half precision."""

# Prefixes of the names of the tensors in the weights file.
_MODEL = "model."
_FAMILIARITY = "familiarity."
_ANCESTRY = "ancestry."


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle.

    Attributes
    ----------
    model : Classifier
        mV ``[B, leads, window]`` to logits ``[B, K]``.
    parts : dict
        Classes and options of the frontend and the network, for `einthoven.predict.network.build`.
    input_format : InputFormat
    classes : tuple of str
    single_label : bool
        Whether the probabilities are a softmax over the classes, or one sigmoid for each class.
    temperature : float
        Divisor of the logits in the task of the training.
    calibration : Calibration
        Fitted, or `Uncalibrated`.
    calibration_method : str
        Its name.
    band : ndarray, shape (K, 2, 2), or None
        Covariance of the calibration line of each class (`einthoven.evaluation.band`).
    conformal : dict of float to float or tuple of K floats
        alpha -> threshold of conformal risk control: one for all classes, or one for each class.
    points : dict
        class -> rule -> the ``threshold`` of an operating point, and the rates that were measured there.
    familiarity : Familiarity or None
    refusal : Refusal or None
        Which records it refuses. None: none.
    missing_leads : dict of str to MissingLead
        The leads that a record may lack, and those without which the loss is too large.
    groups : dict of str to dict of str to str
        Name of a group of classes -> class -> what it means, in the order of `classes`. Empty: they are one group, and
        have no meaning beside their names.
    provenance : dict
        ``trained_on`` (a sentence), ``fitted_on``, ``metrics``, ``date``, ``versions``, ``run``, ``data``, ``config``,
        and ``attribution`` if the licence of the training records asks for it.
    ancestry : Ancestry or None
        Digests of the signals that the model was trained on. None in bundles of einthoven 0.1.
    members : tuple of TreeMember
        Models of ECG features. The probability of a class of the first group is the weighted mean over the network and
        them, before the calibration.
    cuts : tuple of (str, float or None)
        How long records were cut for the training, as in `einthoven.predict.signal.prepare`.
    sha256 : str
        Hash of the bundle; empty if it was not read from a folder.
    """

    model: Classifier
    parts: Mapping[str, Any]
    input_format: InputFormat
    classes: tuple[str, ...]
    single_label: bool
    temperature: float
    calibration: Calibration
    calibration_method: str
    provenance: Mapping[str, Any]
    band: NDArray[np.float64] | None = None
    conformal: Mapping[float, float | tuple[float, ...]] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    familiarity: Familiarity | None = None
    refusal: Refusal | None = None
    missing_leads: Mapping[str, MissingLead] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ancestry: Ancestry | None = None
    members: tuple[TreeMember, ...] = ()
    cuts: tuple[Cut, ...] = ()
    sha256: str = ""

    @cached_property
    def inference_model(self) -> Classifier:
        """A faster copy of `model` with the same predictions (`einthoven.predict.network.fold_batch_norm`)."""
        return fold_batch_norm(self.model)

    @property
    def network_weight(self) -> float:
        """Weight of the network in the mean: 1 without members."""
        return 1.0 - sum(member.weight for member in self.members)

    @property
    def mean_classes(self) -> int:
        """Number of classes whose probabilities are a mean: those of the first group; 0 without members."""
        return len(next(iter(self.groups.values()), self.classes)) if self.members else 0

    @property
    def notice(self) -> str:
        """The sentences that must accompany every prediction."""
        is_calibrated = self.calibration_method != "none"
        state = f"calibration: {self.calibration_method}" if is_calibrated else "not calibrated"
        return f"Trained on {self.provenance['trained_on']}; {state}. Not for diagnosis."

    @property
    def attribution(self) -> str:
        """Who made the training records, and their licence; empty if the bundle states none."""
        return str(self.provenance.get("attribution", ""))

    def save(self, folder: Path, half: bool = False) -> None:
        """Write the bundle. An existing folder is replaced as a whole.

        Parameters
        ----------
        folder : Path
        half : bool
            Write the parameters in half precision and the trees in single precision, which takes half the space. Round
            both before you calibrate. They are read as single and double precision. The matrix of the familiarity is
            in half precision, too, which changes a distance by about 0.02 %.
        """
        weights = self._tensors(single_trees=half)
        if half:
            halved = [f"{_MODEL}{name}" for name, _ in self.model.named_parameters()]
            if self.familiarity is not None and np.abs(self.familiarity.whitening).max() < LARGEST_HALF:
                halved.append(f"{_FAMILIARITY}whitening")
            for name in halved:
                weights[name] = weights[name].half()
        weights_bytes = safetensors.torch.save(weights)
        description_bytes = seal_description(self._description(), weights_bytes)

        replace_folder(folder, {WEIGHTS: weights_bytes, DESCRIPTION: description_bytes})

    def _description(self) -> dict[str, Any]:
        """Return the content of ``bundle.json`` without its hashes."""
        points = {}
        for name, rules in self.points.items():
            points[name] = {rule: dict(point) for rule, point in rules.items()}
        return {
            "format": FORMAT,
            "notice": self.notice,
            "provenance": dict(self.provenance),
            "model": dict(self.parts),
            "reads": {**asdict(self.input_format), "leads": list(self.input_format.leads), "unit": "mV"},
            "classes": list(self.classes),
            "groups": {group: dict(meanings) for group, meanings in self.groups.items()},
            "output": "softmax" if self.single_label else "sigmoid",
            "temperature": self.temperature,
            "calibration": {"method": self.calibration_method, "learned": fitted_state(self.calibration)},
            "band": None if self.band is None else _null_for_nan(self.band),
            "conformal": [{"alpha": alpha, "threshold": _as_json(value)} for alpha, value in self.conformal.items()],
            "operating_points": points,
            "familiarity": None if self.familiarity is None else {"held": self.familiarity.held.tolist()},
            "refusal": None if self.refusal is None else self.refusal.to_json(),
            "missing_leads": {lead: missing.to_json() for lead, missing in self.missing_leads.items()},
            "mean": self._describe_mean(),
            "ancestry": None if self.ancestry is None else {"cuts": [list(cut) for cut in self.cuts]},
        }

    def _describe_mean(self) -> dict[str, Any] | None:
        """Return the members and all weights; None for a network alone."""
        if not self.members:
            return None
        return {"network": self.network_weight, "boosted_trees": [member.to_json() for member in self.members]}

    def _tensors(self, *, single_trees: bool) -> dict[str, torch.Tensor]:
        """Return the content of ``weights.safetensors``. Trees are in double precision, or in single precision."""
        tensors = {f"{_MODEL}{name}": value for name, value in self.model.state_dict().items()}
        if self.familiarity is not None:
            for name in ("mean", "whitening"):
                array = getattr(self.familiarity, name).astype(np.float32)
                tensors[f"{_FAMILIARITY}{name}"] = torch.from_numpy(array)
        if self.ancestry is not None:
            for name, digests in self.ancestry.to_arrays().items():
                tensors[f"{_ANCESTRY}{name}"] = torch.from_numpy(digests.copy())
        for number, member in enumerate(self.members):
            for name, array in member.to_arrays(single=single_trees).items():
                tensors[f"{PREFIX}{number}.{name}"] = torch.from_numpy(array.copy())
        # The format refuses tensors that share memory, such as tied weights. So each tensor is copied.
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle. Each part is checked before the next part is read or built.

    Raises
    ------
    UserError
        If there is no bundle, it is damaged or of a later format, it names something that is not a network, or it
        contains something that a bundle does not contain.
    """
    with read_sealed_folder(folder, DESCRIPTION, "bundle") as sealed:
        description = sealed.description
        input_format = check_description(description)
        model = _build_model(description, input_format, sealed.shapes)
        tensors = sealed.load_tensors()
        set_weights(model, with_prefix(tensors, _MODEL))
        check_output(model, len(input_format.leads), input_format.window, len(description["classes"]))
        return _assemble(description, input_format, model, tensors, sealed.sha256)


def with_prefix(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _build_model(description: Mapping[str, Any], input_format: InputFormat, shapes: Shapes) -> Classifier:
    """Build the network of a description, before the weights are read.

    Raises
    ------
    UserError
        If the file contains other tensors than those of the network and the description, or the network takes too much
        memory.
    """
    expected: set[str] = set()
    if description["familiarity"] is not None:
        expected |= {f"{_FAMILIARITY}mean", f"{_FAMILIARITY}whitening"}
    if description.get("ancestry") is not None:
        lists = LISTS if description["format"] >= ALL_LISTS_FORMAT else FIRST_LISTS
        expected |= {f"{_ANCESTRY}{name}" for name in lists}
    if description.get("mean") is not None:
        entries = description["mean"]["boosted_trees"]
        for entry in entries:
            check_features(entry, input_format)
        expected |= tensor_names(entries)
    others = {name for name in shapes if not name.startswith(_MODEL)}
    if others != expected:
        raise UserError(
            f"the tensors {short_repr(sorted(others))} beside those of the network; expected {sorted(expected)}."
        )

    model_shapes = with_prefix(shapes, _MODEL)
    check_activations(model_shapes, input_format)
    model = build_classifier(description["model"], model_shapes)

    # The features of familiarity are the inputs of the last layer.
    if description["familiarity"] is not None:
        layer = last_layer(model, len(description["classes"]))
        width = 0 if layer is None else layer.in_features
        stated = [shapes[f"{_FAMILIARITY}mean"], shapes[f"{_FAMILIARITY}whitening"]]
        if stated != [(width,), (width, width)]:
            raise UserError(
                f"familiarity of the shapes {stated}; the last layer of the network reads {width} features."
            )
    return model


def _assemble(
    description: Mapping[str, Any],
    input_format: InputFormat,
    model: Classifier,
    tensors: Mapping[str, torch.Tensor],
    sha256: str,
) -> Bundle:
    """Make a bundle of its checked parts."""
    classes = tuple(description["classes"])
    single_label = description["output"] == "softmax"
    calibration = description["calibration"]

    familiarity = _restore_familiarity(description, tensors)
    ancestry, cuts = _restore_ancestry(description, tensors)
    groups = description.get("groups") or {}
    main_classes = len(next(iter(groups.values()), classes))
    members = _restore_members(description, tensors, input_format, main_classes, single_label)
    band = description["band"]
    # Bundles of earlier formats refuse no record, need all leads, and have one group of classes.
    refusal = description.get("refusal")
    missing_leads = description.get("missing_leads") or {}
    return Bundle(
        model=model,
        parts=description["model"],
        input_format=input_format,
        classes=classes,
        single_label=single_label,
        temperature=float(description["temperature"]),
        calibration=restore_calibration(calibration["method"], classes, single_label, calibration["learned"]),
        calibration_method=calibration["method"],
        provenance=description["provenance"],
        band=None if band is None else np.array(band, dtype=np.float64),
        conformal={float(item["alpha"]): _threshold(item["threshold"]) for item in description["conformal"]},
        points=description["operating_points"],
        familiarity=familiarity,
        refusal=None if refusal is None else Refusal.from_json(refusal),
        missing_leads={lead: MissingLead.from_json(content) for lead, content in missing_leads.items()},
        groups=groups,
        ancestry=ancestry,
        members=tuple(members),
        cuts=tuple(cuts),
        sha256=sha256,
    )


def _restore_familiarity(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Familiarity | None:
    """Return what the bundle knows about familiar records; None if it knows nothing."""
    if description["familiarity"] is None:
        return None
    mean = tensors[f"{_FAMILIARITY}mean"].numpy()
    whitening = tensors[f"{_FAMILIARITY}whitening"].float().numpy()
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
        raise UserError("familiarity has values that are not finite.")
    return Familiarity(mean, whitening, np.array(description["familiarity"]["held"]))


def _restore_ancestry(
    description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> tuple[Ancestry | None, list[Cut]]:
    """Return the records that the model has seen, None if they are not listed, and how their store cut them."""
    if description.get("ancestry") is None:
        return None, []
    digests = {name: tensor.numpy() for name, tensor in with_prefix(tensors, _ANCESTRY).items()}
    ancestry = Ancestry.from_arrays(digests)
    if description["format"] < ALL_LISTS_FORMAT:
        # An earlier version did not list them, but it wrote which generator the training records came from.
        config = description["provenance"].get("config")
        options = config if isinstance(config, dict) else {}
        ancestry = replace(ancestry, generator=np.unique(fitted_records(options)))
    return ancestry, [(rule, stride) for rule, stride in description["ancestry"]["cuts"]]


def _restore_members(
    description: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    input_format: InputFormat,
    main_classes: int,
    single_label: bool,
) -> list[TreeMember]:
    """Return the models that answer together with the network. They predict the first `main_classes` classes."""
    members = []
    if description.get("mean") is not None:
        for number, entry in enumerate(description["mean"]["boosted_trees"]):
            own_tensors = with_prefix(tensors, f"{PREFIX}{number}.")
            arrays = {name: tensor.numpy() for name, tensor in own_tensors.items()}
            members.append(restore_member(entry, arrays, input_format, main_classes, single_label))
    return members


def _as_json(threshold: float | tuple[float, ...]) -> float | list[float]:
    """Return the threshold of all classes, or a list of those of each class."""
    return list(threshold) if isinstance(threshold, tuple) else threshold


def _threshold(content: float | list[float]) -> float | tuple[float, ...]:
    """Return a threshold of a checked description."""
    return tuple(map(float, content)) if isinstance(content, list) else float(content)


def _null_for_nan(array: NDArray[np.float64]) -> Any:
    """Return nested lists in which None replaces NaN and infinity."""
    if array.ndim:
        return [_null_for_nan(row) for row in array]
    return float(array) if np.isfinite(array) else None
