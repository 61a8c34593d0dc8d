"""The option ``mean_with`` of `einthoven train`: models of ECG features that answer together with the network of a run.

They are fitted to the training records of the network when it is trained. Then the mean of all is evaluated, as
`einthoven evaluate` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.build import build, trust_named, unknown_name
from einthoven.contracts import TaskKind
from einthoven.data.identity import compare
from einthoven.data.record_names import names_in
from einthoven.errors import UserError
from einthoven.runs.config.identity import identity_tags
from einthoven.runs.config.options import config_hash, editable_copy
from einthoven.runs.config.settings import build_task, is_feature_model
from einthoven.runs.evaluation.evaluation import evaluate_mean
from einthoven.runs.feature_run import FeatureRun
from einthoven.runs.folder.trained_data import is_started, read_trained_data
from einthoven.runs.folder.trained_run import check_safe
from einthoven.runs.network.network_parts import NetworkParts
from einthoven.runs.network.teachers import is_distillation
from einthoven.runs.results.conclude import final_metrics, log_final
from einthoven.runs.results.mean_evaluation import MEAN, NETWORK
from einthoven.runs.start import write_start
from einthoven.terminal.composition import compose_options
from einthoven.terminal.conf_folders import composed_folders, conf_folder, load_option, option_files
from einthoven.terminal.display import say
from einthoven.tracking.recorder import Recorder

if TYPE_CHECKING:
    from omegaconf import DictConfig

MEMBERS = "members"
"""Name of the folder, in the folder of a run, with a folder for each model of ``mean_with``."""

RESERVED = {MEAN: "the mean of all models", NETWORK: "the network"}
"""Names that a model of ``mean_with`` cannot have, and what has them in metrics and files."""

_WITHOUT_LOGITS = {"targets": None, "soft_targets": False, "read_weight": 0.0, "temperature": 1.0}
"""Options of a task that change only networks, with the values that change nothing."""


def with_members(config: DictConfig) -> DictConfig:
    """Return the configuration of a run with the options of the models that ``mean_with`` names.

    The list of names becomes a mapping of names to options. So a run that is resumed does not read ``conf/`` again, and
    the hash of its configuration covers the options of these models. Raises a `UserError` if there is no such model of
    ECG features, or the run cannot have a mean.
    """
    from omegaconf import DictConfig, ListConfig

    named = config.get("mean_with")
    if not named or isinstance(named, DictConfig):
        return config
    if not isinstance(named, ListConfig) or not all(isinstance(name, str) for name in named):
        raise UserError(f"mean_with={named}: expected a list of models of ECG features, such as [gradient_boosting].")
    written = f"mean_with=[{','.join(named)}]"
    if len(set(named)) < len(named):
        raise UserError(f"{written}: names a model twice; expected each model once.")
    for name in named:
        if name in RESERVED:
            raise UserError(
                f"{written}: {name} is the name of {RESERVED[name]} in the results; expected another name for the "
                f"model (rename {name}.yaml)."
            )
    _refuse_without_mean(config, written)
    filled = editable_copy(config)
    filled.mean_with = {name: _options_of(name, written) for name in named}
    for name in named:
        # Building a model checks its options.
        build(filled.mean_with[name], f"mean_with.{name}")
    return filled


def _refuse_without_mean(config: DictConfig, written: str) -> None:
    """Refuse a run that cannot have a mean. `written` is the option as it was given."""
    if is_feature_model(config):
        raise UserError(
            f"{written}: model={config.model._target_} is a model of ECG features itself; expected the model of a "
            "network, or mean_with=[]."
        )
    folds = config.data.folds
    if folds.get("cross_validate"):
        raise UserError(
            f"{written}: folds=cv has no fold for the calibration of a mean and another one for its figures; expected "
            "data.folds.val and data.folds.test, or mean_with=[]."
        )
    for split in ("val", "test"):
        if not folds.get(split):
            use = "the calibration" if split == "val" else "the figures"
            raise UserError(f"{written}: {use} of the mean need data.folds.{split}, which is empty.")
    task = build_task(config)
    if task.kind is not TaskKind.CLASSES or is_distillation(config):
        raise UserError(
            f"{written}: models of ECG features are fitted to the labels of classes, and task={task.name} has no such "
            "labels or learns from more than them; expected a task such as superdiagnostic, or mean_with=[]."
        )


def _options_of(name: str, written: str) -> DictConfig:
    """Return the options of a model of ECG features from ``conf/model``, or from a folder of the user."""
    from hydra.core.hydra_config import HydraConfig

    folders = composed_folders(HydraConfig.get()) if HydraConfig.initialized() else [conf_folder()]
    names = list(option_files(folders, "model"))
    if name not in names:
        known = [other for other in names if _is_of_features(_load(folders, other))]
        raise UserError(unknown_name(written, name, known))
    options = _load(folders, name)
    # The user has named it, as the model of a run.
    trust_named(options)
    if not _is_of_features(options):
        raise UserError(f"{written}: {name} is a network; expected models of ECG features, such as gradient_boosting.")
    return options


def _load(folders: list[Path], name: str) -> DictConfig:
    """Return the options of a model."""
    options = load_option(option_files(folders, "model")[name])
    # Composing takes longer than reading one file. Only a file with a defaults list needs it.
    if "defaults" in options:
        return compose_options(folders, "train", f"model={name}").model
    return options


def _is_of_features(options: DictConfig) -> bool:
    """Return whether a model is fitted to ECG features. A model that is not trusted counts as another one."""
    from omegaconf import OmegaConf

    try:
        return is_feature_model(OmegaConf.create({"model": options}))
    except UserError:
        return False


def conclude_mean(run: NetworkParts, recorder: Recorder) -> dict[str, float]:
    """Fit the models of ``mean_with``, evaluate the mean, and log both to the run. Return the metrics.

    The network of the run has its final weights. A model that has been fitted already, before the run was interrupted,
    is not fitted again. The metrics have names such as ``test/gradient_boosting_macro_auroc`` and
    ``test/mean_macro_auroc``.
    """
    names = list(map(str, run.config.mean_with))
    folders = [run.folder / MEMBERS / name for name in names]
    for name, folder in zip(names, folders, strict=True):
        _fit_member(run, recorder, name, folder)
    config = compose_options([conf_folder()], "evaluate")
    config.run = str(run.folder)
    config.mean_with = list(map(str, folders))
    mean = evaluate_mean(run, config, recorder)

    # The metrics of each model, as those of the network.
    metrics: dict[str, float] = {}
    for split in ("val", "test"):
        _, *of_members = mean.evaluate_each(split)
        predictions = dict(zip([*names, MEAN], [*of_members, mean.evaluate(split)], strict=True))
        for name, of_model in predictions.items():
            for metric, value in final_metrics(run, {split: of_model}).items():
                metrics[f"{split}/{name}_{metric.removeprefix(f'{split}/')}"] = value
    log_final(recorder, run.position.step + 1, metrics)
    return metrics


def _fit_member(run: NetworkParts, recorder: Recorder, name: str, folder: Path) -> None:
    """Fit a model of ECG features to the training records of a run, unless its folder has it already."""
    if folder.exists():
        check_safe(folder)
    say(f"Now {name} is fitted, which answers together with the network (mean_with).")
    member = FeatureRun(_member_config(run.config, name), folder)
    if _is_fitted_to(folder, member):
        say(f"It has been fitted already: {member.file}")
        return
    member.file.unlink(missing_ok=True)
    write_start(member, list(read_trained_data(run.folder, "run", takes_added=False).overrides))
    member.fit()
    if run.settings.tracking.artifacts:
        member.log_features(recorder, "val", f"_{name}")
    # The file is the last one: a model that has it is complete.
    member.save()
    if run.settings.tracking.artifacts:
        recorder.file(member.file, f"{MEMBERS}/{name}")


def _member_config(config: DictConfig, name: str) -> DictConfig:
    """Return the configuration of the run of a model of ``mean_with``: that of the network, with another model."""
    changed = editable_copy(config)
    changed.model = config.mean_with[name]
    # The model is fitted to the classes themselves, and has no logits.
    for option, value in _WITHOUT_LOGITS.items():
        if option in changed.task:
            changed.task[option] = value
    return changed


def _is_fitted_to(folder: Path, member: FeatureRun) -> bool:
    """Return whether the model in a folder is that of a run: fitted with the same options and code to the same data."""
    if not (member.file.exists() and is_started(folder)):
        return False
    fitted = read_trained_data(folder, MEMBERS, takes_added=False)
    now = identity_tags(member.config)
    if fitted.data is None or fitted.code != now["code.hash"] or config_hash(fitted.options) != now["config.hash"]:
        return False
    return not compare(fitted.data, member.data.identity, names_in(member.data.store.table)).is_different
