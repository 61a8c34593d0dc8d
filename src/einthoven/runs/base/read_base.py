"""Read the base that ``init_from`` names, and take the architecture of a run from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.contracts import CLASS_OUTPUTS, TaskKind
from einthoven.errors import UserError
from einthoven.predict.bundle import read_bundle
from einthoven.predict.model_folder import SYNTHETIC_BUNDLE, find_model, is_fitted_to_features, named_folder
from einthoven.runs.base.base_options import OF_BASE, difference_to_base, named_rates, plain_group
from einthoven.runs.base.tuning_rate import keeps_rate, tuning_rate
from einthoven.runs.base.usual_start import AUTO, USUAL_BASE, USUAL_RATE, may_have_usual_base, reason_for_fresh_weights
from einthoven.runs.config.options import editable_copy
from einthoven.runs.config.run_config import with_current_names
from einthoven.runs.config.run_name import unresolved_name
from einthoven.runs.config.settings import build_task
from einthoven.runs.data.input_checks import refuse_other_input
from einthoven.runs.folder.base_model import BaseModel, check_state
from einthoven.runs.folder.checkpoint_checks import checkpoint_errors, outputs_of
from einthoven.runs.folder.trained_run import open_trained
from einthoven.terminal.display import say

if TYPE_CHECKING:
    from omegaconf import DictConfig

MASKS = "masks"
"""Output of a model of masks."""

_FROM_DATA = ("in_channels", "num_classes", "samples")
"""Options of a network that a run derives from its data."""


def with_base(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the configuration of a run with the architecture and the frontend options of its base.

    Only dropout rates that the run names replace those of the base. Their network has the same weights: `load_base`
    refuses other names or shapes. The configuration also gets ``init_from_sha256``, the hash of the base, so that runs
    from different bases are different runs. The learning rate is that of a fine-tuning if nobody has chosen one.

    Parameters
    ----------
    overrides : list of str
        Options that the command line changed.

    Raises
    ------
    UserError
        If there is no such base, or the options or the records do not suit it.
    """
    if config.get("init_from") == AUTO:
        config = _with_usual_base(config, overrides)
    if config.get("init_from") is None:
        return config
    base = read_base(str(config.init_from))
    refuse_other_input(base.source, base, config.data.get("leads"), config.data.get("fs"))
    _refuse_other_kind(base, build_task(config))
    rates = named_rates(config, base, overrides)
    merged = editable_copy(config)
    for group in OF_BASE:
        merged[group] = dict(base.options[group])
    merged["model"].update(rates)
    merged["init_from_sha256"] = base.sha256
    rate = tuning_rate(config, base, overrides)
    if rate is not None:
        merged["optimizer"]["lr"] = rate
        say(
            f"The learning rate is {rate:g} (optimizer.lr), because the run starts from {base.source}. It would be "
            f"{config.optimizer.lr:g} for fresh weights."
        )
    merged["tracking"]["run_name"] = _run_name(unresolved_name(config), base, str(config.init_from), merged)
    return merged


def _with_usual_base(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return a configuration with the base that ``init_from=auto`` stands for, if any, and its learning rate."""
    from omegaconf import OmegaConf

    resolved = config.copy()
    OmegaConf.set_readonly(resolved, False)
    resolved["init_from"] = None
    if not may_have_usual_base(config):
        return resolved

    reason = reason_for_fresh_weights(config)
    # A folder of the user may have the name of the bundle.
    name = USUAL_BASE if named_folder(USUAL_BASE) == SYNTHETIC_BUNDLE else str(SYNTHETIC_BUNDLE)
    if not reason:
        base = read_base(name)
        reason = difference_to_base(config, base, overrides)
    if reason:
        say(f"The run starts from fresh weights, and not from {USUAL_BASE} (init_from={AUTO}), because {reason}.")
        return resolved

    resolved["init_from"] = name
    with_rate = ""
    if not keeps_rate(config, overrides):
        resolved["optimizer"]["lr"] = USUAL_RATE
        with_rate = f", with optimizer.lr={USUAL_RATE:g}"
    say(
        f"The run starts from {USUAL_BASE} ({base.sha256}), a network that has learned generated ECGs{with_rate} "
        f"(init_from={AUTO}). With init_from=null, it would start from fresh weights."
    )
    return resolved


def _run_name(pattern: str, base: BaseModel, init_from: str, config: DictConfig) -> str:
    """Return the pattern of the name of a run, with the network of the base, the base, and the learning rate."""
    module, _, name = str(base.options["model"]["_target_"]).rpartition(".")
    # The option of a class has the name of its module: conv_attention. A function has the name of its option.
    network = name if name.islower() else module.rpartition(".")[2]
    # A dollar sign would begin an interpolation.
    start = Path(init_from).name.replace("$", "")
    rate = config.optimizer.get("lr")
    optimizer = "${hydra:runtime.choices.optimizer}"
    named = pattern.replace("${hydra:runtime.choices.model}", f"{network}-from-{start}")
    # A rate that is not a number is refused later, with the other options.
    if not isinstance(rate, (int, float)):
        return named
    return named.replace(optimizer, f"{optimizer}-lr{rate:g}")


def _refuse_other_kind(base: BaseModel, task: Any) -> None:
    """Refuse the base of a delineation for another task, and another base for a delineation.

    The network of a delineation has outputs at each sample. The other networks have outputs for a whole window.
    """
    if base.output == MASKS and task.kind is not TaskKind.MASKS:
        raise UserError(
            f"{base.source}: is the run of a delineation, whose network has outputs at each sample and no encoder of "
            f"a record for task={task.name}; expected the run of a classifier or of a pretraining."
        )
    if task.kind is TaskKind.MASKS and base.output in (*CLASS_OUTPUTS, "identity"):
        raise UserError(
            f"{base.source}: is {base.description}, whose network has outputs for a whole window, and task={task.name} "
            "needs outputs at each sample; expected the run of a delineation."
        )


def read_base(name: str) -> BaseModel:
    """Read the base that ``init_from`` names: the folder of a run or of a bundle, or a bundle of the package."""
    source = f"init_from={name}"
    folder = named_folder(name)
    model = find_model(folder, source)
    if model.bundle == folder:
        return _read_bundle(folder, source)
    if is_fitted_to_features(folder):
        raise UserError(f"{source}: its model is fitted to features, and has no encoder; expected a run of a network.")
    return _read_run(folder, source)


def _read_run(folder: Path, source: str) -> BaseModel:
    """Read the weights that the metrics of a run belong to."""
    opened = open_trained(folder, "init_from")
    config = opened.config
    weights, notes = opened.read_selected()
    with checkpoint_errors(opened.checkpoints):
        leads = tuple(map(str, notes["leads"]))
        fs = float(notes["fs"])
    check_state(weights, opened.checkpoints)
    task = build_task(config)
    return BaseModel(
        source=source,
        description=f"a run of the task {task.name} ({len(opened.trained.ancestry.trained):,} training records)",
        options={group: plain_group(config[group]) for group in ("model", "pca")},
        state=weights,
        classes=outputs_of(notes),
        output=str(task.output),
        temperature=float(getattr(task, "temperature", 1.0)),
        leads=leads,
        fs=fs,
        ancestry=opened.trained.ancestry,
    )


def _read_bundle(folder: Path, source: str) -> BaseModel:
    """Read the network of a bundle. Other models that answer together with it are no start of a training."""
    bundle = read_bundle(folder)
    kind = "the network of a bundle" if bundle.members else "a bundle"
    frontend = bundle.parts["frontend"]["options"]
    network = bundle.parts["network"]
    readout = bundle.model.readout
    options = {name: value for name, value in network["options"].items() if name not in _FROM_DATA}
    # A bundle states the frequency behind the frontend, and a configuration that of the records.
    if options.get("fs"):
        options["fs"] = bundle.input_format.fs
    return BaseModel(
        source=source,
        description=f"{kind} trained on {bundle.provenance['trained_on']}",
        options={
            "model": {"_target_": network["class"], "_partial_": True, **options},
            "pca": _pca_options(bundle.provenance.get("config"), frontend, source),
        },
        state={name: value.detach() for name, value in bundle.model.state_dict().items()},
        classes=bundle.classes if readout is None else readout.statements,
        output="softmax" if bundle.single_label else "sigmoid",
        temperature=bundle.temperature,
        leads=bundle.input_format.leads,
        fs=bundle.input_format.fs,
        ancestry=bundle.ancestry,
    )


def _pca_options(config: Any, frontend: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the group ``pca`` of a bundle: as its provenance says or, without that, as its frontend looks."""
    options = {}
    if isinstance(config, Mapping):
        for name, value in with_current_names(config).items():
            if name.startswith("pca."):
                options[name.removeprefix("pca.")] = value
    if "_target_" in options:
        return options
    if "stride" in frontend:
        raise UserError(f"{source}: does not state the options of its components over time (pca).")
    is_projected = frontend["out_channels"] != frontend["in_channels"]
    return {
        "_target_": "einthoven.models.frontend.Frontend.fit",
        "_partial_": True,
        "mode": "leads" if is_projected else "none",
        "k": frontend["out_channels"] if is_projected else None,
    }
