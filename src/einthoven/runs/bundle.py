"""What a run has learned, as a bundle: at the end of its training, and anew, calibrated, when it is evaluated."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import einthoven
from einthoven.command_line import command
from einthoven.errors import UserError
from einthoven.evaluation.band import calibration_covariance
from einthoven.evaluation.calibration import Calibration, Uncalibrated
from einthoven.evaluation.calibration_state import METHODS
from einthoven.evaluation.conformal import risk_control_threshold
from einthoven.evaluation.familiarity import MAX_FEATURES, Familiarity
from einthoven.models.time_frontend import TimeFrontend
from einthoven.predict.bundle import Bundle
from einthoven.predict.network import last_layer
from einthoven.predict.predictor import compute_features
from einthoven.predict.signal import Cut, InputFormat
from einthoven.runs.build_model import network_options
from einthoven.runs.next_commands import evaluate_command
from einthoven.runs.options import logged_options, plain_options
from einthoven.terminal.unsure_tables import ALPHAS

if TYPE_CHECKING:
    from einthoven.runs.network_parts import NetworkParts

FOLDER = "bundle"
ASKED = 4000  # training records, at most, that say what is familiar


@dataclass(frozen=True)
class Fitted:
    """What was fitted on the records of a split that was not trained on."""

    calibration: Calibration
    split: str
    y: NDArray[np.float64]
    p: NDArray[np.float64]
    """Calibrated."""
    points: dict[str, dict[str, dict[str, float | None]]]
    metrics: dict[str, float]


def can_be_bundled(run: NetworkParts) -> bool:
    """Whether the run answers with probabilities of classes."""
    return getattr(run.task, "output", None) in ("sigmoid", "softmax")


def bundle_of(run: NetworkParts, fitted: Fitted | None = None) -> Bundle:
    """The bundle of a run with the weights that it has now.

    Raises
    ------
    UserError
        If its calibration is one of the user's own: a bundle holds what it has learned, not its code.
    """
    parts, input_format, task = _parts(run), _input_format(run), run.task
    classes = run.data.labels.classes
    same: dict[str, Any] = {
        "model": run.model,
        "parts": parts,
        "input_format": input_format,
        "classes": classes,
        "single_label": task.single_label,
        "temperature": task.temperature,
        "provenance": _provenance(run, fitted),
        "ancestry": run.ancestry if fitted is None else run.ancestry.fitted_on(run.data.digests(fitted.split)),
        "cuts": _cuts(run.config.data),
    }
    if fitted is None:
        return Bundle(calibration=Uncalibrated(classes, task.single_label), calibration_method="none", **same)
    method = [name for name, (known, _) in METHODS.items() if type(fitted.calibration) is known]
    if not method:
        found = type(fitted.calibration).__name__
        raise UserError(f"calibration {found}: a bundle may hold {', '.join(METHODS)}.")
    bundle = Bundle(
        calibration=fitted.calibration,
        calibration_method=method[0],
        band=calibration_covariance(fitted.y, fitted.p),
        conformal={alpha: risk_control_threshold(fitted.y, fitted.p, alpha) for alpha in ALPHAS},
        points=fitted.points,
        **same,
    )
    layer = last_layer(run.model, len(classes))
    if layer is None or layer.in_features > MAX_FEATURES:
        return bundle
    train, held = (compute_features(bundle, _signals(run, split)) for split in ("train", fitted.split))
    return replace(bundle, familiarity=Familiarity.fit(train, held))


def write_bundle(run: NetworkParts, fitted: Fitted | None = None) -> str:
    """Write the bundle into the run's folder; the value is a sentence that says so, or why there is none."""
    if not can_be_bundled(run):
        return "no bundle: a quantity has none, which has no probabilities of classes"
    try:
        bundle_of(run, fitted).save(run.folder / FOLDER)
    except UserError as error:
        return f"no bundle: {error}"
    state = "calibrated"
    if fitted is not None and isinstance(fitted.calibration, Uncalibrated):
        state = "not calibrated"
    if fitted is None:
        state = f"not calibrated yet: {evaluate_command(run.folder, run.settings.tracking.uri)} does that"
    return f"bundle in {run.folder / FOLDER} ({state}): {command('predict', str(run.folder))} FILE…"


def _parts(run: NetworkParts) -> dict[str, Any]:
    """Frontend and network, described so that they can be built without a configuration."""
    frontend = run.model.frontend
    options: dict[str, Any] = {"in_channels": frontend.in_channels}
    if isinstance(frontend, TimeFrontend):
        k, width = frontend.projection.shape
        options |= {"k": k, "width": width, "stride": frontend.stride}
    else:
        options["out_channels"] = frontend.out_channels
    kind = type(frontend)
    network = network_options(run.config, run.model.frontend, len(run.data.labels.classes), run.window)
    return {
        "frontend": {"class": f"{kind.__module__}.{kind.__qualname__}", "options": options},
        "network": {"class": str(run.config.model["_target_"]), "options": network},
    }


def _input_format(run: NetworkParts) -> InputFormat:
    store, data = run.data.store, run.config.data
    samples = run.data.splits["train"].samples
    return InputFormat(
        leads=tuple(store.leads),
        fs=float(store.fs),
        seconds=samples / store.fs,
        pads=data.get("short") == "pad",
        window=run.window,
        stride=run.stride,
        aggregate=run.settings.trainer.aggregate,
    )


def _cuts(data: Mapping[str, Any]) -> tuple[Cut, ...]:
    """How the sources of a run cut longer records; one without such an option keeps their beginning."""
    sources = data.get("sources") or {"": data}
    cuts = [(str(source.get("long", "crop")), source.get("stride")) for source in sources.values()]
    return tuple(dict.fromkeys(cuts))


def _provenance(run: NetworkParts, fitted: Fitted | None) -> dict[str, Any]:
    folds, table = run.settings.folds, run.data.table("train")
    found: dict[str, Any] = {
        "trained_on": f"{_named(len(table), sorted(set(table['source'])))}, task {run.task.labels}",
        "folds": {"train": folds.train},
        "data": run.data.store.fingerprint,
        "epochs": run.position.epoch,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "einthoven": einthoven.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "config": logged_options(plain_options(run.config)),
    }
    if fitted is not None:
        found["folds"]["fit"] = getattr(folds, fitted.split)
        found["fitted_on"] = f"{len(fitted.y):,} records that were not trained on"
        found["metrics"] = fitted.metrics
    return found


def _named(records: int, sources: list[str]) -> str:
    """So many records of these sources, in words."""
    if sources == ["synthetic"]:
        return f"{records:,} synthetic ECGs (generated, of no person)"
    return f"{records:,} records of {' and '.join(sources)}"


def _signals(run: NetworkParts, split: str) -> NDArray[np.int16]:
    """Some windows of a split, in µV: at most `ASKED`, spread evenly."""
    rows = run.data.stored[run.data.rows[split]]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), ASKED)).astype(np.int64))
    signals: NDArray[np.int16] = run.data.store.signals[np.sort(rows[chosen])]
    return signals
