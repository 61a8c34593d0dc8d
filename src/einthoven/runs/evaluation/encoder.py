"""The encoder of a run or a bundle. The records of the training are not needed.

A run of classes has a bundle, and its encoder is that of the bundle. Other runs, such as a pretraining, have only
checkpoints. Their network is built from ``config.yaml`` and the shapes of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.functional.weight_hash import hash_weights
from einthoven.models.frontend import Frontend
from einthoven.models.time_frontend import TimeFrontend
from einthoven.predict.bundle import DESCRIPTION, read_bundle
from einthoven.predict.description import check_reads
from einthoven.predict.embedding import Encoder
from einthoven.predict.limits import check_activations
from einthoven.predict.model_folder import BUNDLE, find_bundle, find_model, named_folder
from einthoven.predict.network import build_classifier, fold_batch_norm, set_weights
from einthoven.predict.signal import InputFormat
from einthoven.runs.config.settings import pads_records
from einthoven.runs.folder.checkpoint_checks import checkpoint_errors
from einthoven.runs.folder.trained_run import TrainedRun, open_trained
from einthoven.runs.network.build_model import describe_network
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from omegaconf import DictConfig


@dataclass(frozen=True)
class TrainedEncoder:
    """The encoder of a run, with what a comparison needs."""

    encoder: Encoder
    config: DictConfig
    """Configuration of the run."""
    ancestry: Ancestry | None
    """The records that the encoder has seen. None if it does not list them."""
    run_id: str
    """Id of the MLflow run; empty if the store has not created it."""


def read_encoder(path: str) -> Encoder:
    """Read the encoder of a bundle, or of a run with or without a bundle.

    The path is a folder, the name of a bundle of the package, or the address of a bundle in MLflow.
    """
    if path.startswith(("runs:/", "models:/")):
        return Encoder.from_bundle(read_bundle(find_bundle(path)))
    folder = named_folder(path)
    model = find_model(folder, path)
    if model.bundle is not None:
        return Encoder.from_bundle(read_bundle(model.bundle))
    return read_run_encoder(folder).encoder


def read_run_encoder(folder: Path) -> TrainedEncoder:
    """Read the encoder of a run.

    Raises
    ------
    UserError
        As in `read_encoder`, or if the configuration was changed after the training.
    """
    opened = open_trained(folder, "run")
    with checkpoint_errors(opened.checkpoints):
        run_id = str(checkpoint.load_notes(opened.checkpoints)["run_id"])
    # A run of einthoven 0.1 does not list the records that it has seen.
    ancestry = None if opened.trained.data is None else opened.trained.ancestry
    bundle_folder = folder / BUNDLE
    if (bundle_folder / DESCRIPTION).is_file():
        bundle = read_bundle(bundle_folder)
        encoder = Encoder.from_bundle(bundle)
        # The bundle may be a copy of one that lists more.
        ancestry = _merge(ancestry, bundle.ancestry)
    else:
        encoder = _read_checkpoint(opened)
    return TrainedEncoder(encoder, opened.config, ancestry, run_id)


def _merge(first: Ancestry | None, second: Ancestry | None) -> Ancestry | None:
    """Return the records of both lists; None if there is none."""
    if first is None or second is None:
        return first or second
    return first.merged(second)


def _read_checkpoint(opened: TrainedRun) -> Encoder:
    """Read the encoder of a run that has no bundle."""
    all_weights, notes = opened.read_selected()
    with checkpoint_errors(opened.checkpoints):
        # A pretraining has further modules, such as a decoder.
        weights = {name: value for name, value in all_weights.items() if name.startswith(("frontend.", "network."))}
        input_format = _input_format(opened.config, notes, opened.source)
        parts = _parts(opened.config, weights, input_format, opened.source)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    check_activations(shapes, input_format)
    model = build_classifier(parts, shapes)
    set_weights(model, weights)
    return Encoder(fold_batch_norm(model), input_format, "weights", hash_weights(weights))


def _input_format(config: DictConfig, notes: Mapping[str, Any], source: str) -> InputFormat:
    """Return what the network of a run reads."""
    fs = float(notes["fs"])
    if "samples" not in notes:
        raise UserError(
            f"{source}: was trained by an earlier version, which did not write the length of its records; expected a "
            "run with a bundle, or one of this version."
        )
    samples = int(notes["samples"])
    trainer = config.trainer
    window = samples if trainer.window is None else round(trainer.window * fs)
    stride = max(1, window // 2) if trainer.stride is None else max(1, round(trainer.stride * fs))
    # The checkpoint may come from a stranger, and has the same limits as a bundle.
    return check_reads(
        {
            "leads": list(notes["leads"]),
            "fs": fs,
            "seconds": samples / fs,
            "pads": pads_records(config, notes.get("pads")),
            "unit": "mV",
            "window": window,
            "stride": stride,
            "aggregate": "mean",
        }
    )


def _parts(config: DictConfig, weights: Mapping[str, Tensor], input_format: InputFormat, source: str) -> dict[str, Any]:
    """Return the frontend and the network as a bundle describes them, from the configuration and the shapes.

    Raises a `UserError` if the network has no matrix, so that it has no head.
    """
    # The last matrix of the network gives its outputs. They are not used, but their weights are in the file.
    matrices = [value for name, value in weights.items() if name.startswith("network.") and value.ndim == 2]
    if not matrices:
        name = str(config.model["_target_"]).rpartition(".")[2]
        raise UserError(
            f"{source}: its network {name} has no head, so that it has no embeddings; expected the run of a classifier "
            "or of a pretraining."
        )
    outputs = len(matrices[-1])
    frontend = _frontend(config, weights, input_format)
    return describe_network(config, frontend, outputs, input_format.window)


def _frontend(config: DictConfig, weights: Mapping[str, Tensor], input_format: InputFormat) -> Frontend | TimeFrontend:
    """Return an unfitted frontend with the shapes of weights."""
    projection = weights["frontend.projection"]
    if "frontend.centre" in weights:
        k, width = projection.shape
        step = round(config.pca.stride * input_format.fs)
        return TimeFrontend(len(input_format.leads), k, width, step)
    components, leads = projection.shape
    return Frontend(leads, components)
