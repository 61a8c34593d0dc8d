"""The encoder of a run or a bundle. The records of the training are not needed.

A run of classes has a bundle, and its encoder is that of the bundle. Other runs, such as a pretraining, have only
checkpoints. Their network is built from ``config.yaml`` and the shapes of the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from einthoven.data.ancestry import Ancestry
from einthoven.errors import UserError
from einthoven.predict import DESCRIPTION, find_bundle
from einthoven.predict.bundle import read_bundle
from einthoven.predict.description import check_reads
from einthoven.predict.embedding import Encoder
from einthoven.predict.limits import check_activations
from einthoven.predict.network import build, build_classifier, fold_batch_norm, set_weights
from einthoven.predict.signal import InputFormat
from einthoven.runs.build_model import network_options
from einthoven.runs.checkpoint_checks import check_notes, checkpoint_errors
from einthoven.runs.finished import FREE_OPTIONS, check_trained
from einthoven.runs.identity import refuse_other_options
from einthoven.runs.run_config import read_config
from einthoven.runs.trained_data import read_trained_data
from einthoven.terminal.display import warn
from einthoven.training import checkpoint

if TYPE_CHECKING:
    from omegaconf import DictConfig

BUNDLE = "bundle"


@dataclass(frozen=True)
class TrainedEncoder:
    """The encoder of a run, with what a comparison needs.

    Attributes
    ----------
    encoder : Encoder
    config : DictConfig
        Configuration of the run.
    ancestry : Ancestry
        The records that the encoder has seen.
    knows_records : bool
        Whether the run lists these records. A run of einthoven 0.1 does not.
    run_id : str
        Id of the MLflow run; empty if the store has not created it.
    """

    encoder: Encoder
    config: DictConfig
    ancestry: Ancestry
    knows_records: bool
    run_id: str


def read_encoder(path: str) -> Encoder:
    """Read the encoder of a bundle, or of a run with or without a bundle.

    Parameters
    ----------
    path : str
        Folder of a bundle or of a run, or the address of a bundle in MLflow.

    Raises
    ------
    UserError
        If there is no model, its files are damaged or not safe to use, or its network has no encoder.
    """
    folder = Path(path)
    has_bundle = any((place / DESCRIPTION).is_file() for place in (folder, folder / BUNDLE))
    if checkpoint.exists(folder / "checkpoints") and not has_bundle:
        return read_run_encoder(folder, "run").encoder
    return Encoder.from_bundle(read_bundle(find_bundle(path)))


def read_run_encoder(folder: Path, option: str) -> TrainedEncoder:
    """Read the encoder of a run.

    Parameters
    ----------
    folder : Path
    option : str
        The option that named the folder, for error messages.

    Raises
    ------
    UserError
        As in `read_encoder`, or if the configuration was changed after the training.
    """
    check_trained(folder, option)
    config = read_config(folder, option)
    trained = read_trained_data(folder, option, takes_added=True)
    refuse_other_options(config, trained.options, trained.run, free=FREE_OPTIONS)
    checkpoints = folder / "checkpoints"
    with checkpoint_errors(checkpoints):
        run_id = str(checkpoint.load_notes(checkpoints)["run_id"])
    if (folder / BUNDLE / DESCRIPTION).is_file():
        encoder = Encoder.from_bundle(read_bundle(folder / BUNDLE))
    else:
        encoder = _read_checkpoint(checkpoints, config, f"{option}={folder}")
    return TrainedEncoder(encoder, config, trained.ancestry, trained.data is not None, run_id)


def _read_checkpoint(checkpoints: Path, config: DictConfig, source: str) -> Encoder:
    """Read the weights that the metrics of a run belong to: the best or the last ones, as it selects."""
    state, notes, warning = checkpoint.load_last(checkpoints)
    if warning:
        warn(warning)
    with checkpoint_errors(checkpoints):
        check_notes(notes)
        if config.trainer.select == "best" and notes["position"]["best_epoch"]:
            state, _ = checkpoint.load(checkpoints / "best.safetensors")
        # A pretraining has further modules, such as a decoder.
        weights = {
            str(name): value for name, value in state["model"].items() if name.startswith(("frontend.", "network."))
        }
        input_format = _input_format(config, notes, source)
        parts = _parts(config, weights, input_format, source)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    check_activations(shapes, input_format)
    model = build_classifier(parts, shapes)
    set_weights(model, weights)
    return Encoder(fold_batch_norm(model), input_format, "weights", _hash(weights))


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
            "pads": config.data.get("short") == "pad",
            "unit": "mV",
            "window": window,
            "stride": stride,
            "aggregate": "mean",
        }
    )


def _parts(config: DictConfig, weights: Mapping[str, Tensor], input_format: InputFormat, source: str) -> dict[str, Any]:
    """Return the frontend and the network as a bundle describes them, from the configuration and the shapes.

    Raises
    ------
    UserError
        If the network has no matrix, so that it has no head.
    """
    projection = weights["frontend.projection"]
    if "frontend.centre" in weights:
        k, width = projection.shape
        step = round(config.pca.stride * input_format.fs)
        options = {"in_channels": len(input_format.leads), "k": k, "width": width, "stride": step}
        frontend = {"class": "einthoven.models.time_frontend.TimeFrontend", "options": options}
    else:
        options = {"in_channels": projection.shape[1], "out_channels": projection.shape[0]}
        frontend = {"class": "einthoven.models.frontend.Frontend", "options": options}

    # The last matrix of the network gives its outputs. They are not used, but their weights are in the file.
    matrices = [value for name, value in weights.items() if name.startswith("network.") and value.ndim == 2]
    if not matrices:
        name = str(config.model["_target_"]).rpartition(".")[2]
        raise UserError(
            f"{source}: its network {name} has no head, so that it has no embeddings; expected the run of a classifier "
            "or of a pretraining."
        )
    outputs = len(matrices[-1])
    built: Any = build(frontend)
    network = network_options(config, built, outputs, input_format.window)
    return {"frontend": frontend, "network": {"class": str(config.model["_target_"]), "options": network}}


def _hash(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights and their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()
