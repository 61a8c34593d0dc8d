"""What a run of PTB-XL starts from if nobody has chosen it (``init_from=auto``): generated ECGs or fresh weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from einthoven.data.synthetic.fitted import fitted_folds
from einthoven.runs.config.settings import is_feature_model, read_settings

if TYPE_CHECKING:
    from omegaconf import DictConfig

AUTO = "auto"
"""The value of ``init_from`` with which a run chooses whether it starts from `USUAL_BASE`."""

USUAL_BASE = "synthetic"
"""The bundle of the package that a run of PTB-XL starts from."""

USUAL_RATE = 1e-3
"""The learning rate with which this start was judged (docs/results.md)."""

_SOURCE = "einthoven.data.sources.ptbxl.PTBXL"
"""The source of the records of such a run."""

_JUDGED_WITH = {
    "task._target_": "einthoven.tasks.classification.Classification",
    "task.labels": "superdiagnostic",
    "task.single_label": False,
    "task.targets": None,
    "task.shuffle_labels": False,
    "init._target_": "einthoven.models.init.default",
}
"""The options with which this start was shown to be better (docs/results.md)."""


def may_have_usual_base(config: DictConfig) -> bool:
    """Return whether a run classifies records of PTB-XL by a network.

    Other runs start from fresh weights without a sentence. Generated records are among them, because the base may have
    seen them.
    """
    has_labels = config.task.get("labels") is not None
    return config.data.get("_target_") == _SOURCE and has_labels and not is_feature_model(config)


def reason_for_fresh_weights(config: DictConfig) -> str:
    """Return why a run of PTB-XL does not start from the usual base, whatever its network; empty if there is no reason.

    The reason is an option, or a judged fold.
    """
    return _difference_to_judged(config) or _known_fold(config)


def _difference_to_judged(config: DictConfig) -> str:
    """Return the first option with which this start was not judged; empty if there is none."""
    from omegaconf import OmegaConf

    for name, judged in _JUDGED_WITH.items():
        value = OmegaConf.select(config, name)
        if value != judged:
            return f"{name} is {value} here, and this start was judged with {judged}"
    return ""


def _known_fold(config: DictConfig) -> str:
    """Return the first fold that is judged and that the generator was fitted to; empty if there is none.

    The fit has read signals and no labels. A figure of such a fold could still be too good.
    """
    folds = read_settings(config).folds
    judged = {"data.folds.val": folds.val, "data.folds.test": folds.test}
    if folds.cross_validate:
        judged["folds=cv"] = folds.train
    known = fitted_folds()
    for option, judged_folds in judged.items():
        for fold in judged_folds:
            if fold in known:
                listed = " ".join(map(str, known))
                return (
                    f"fold {fold} is judged ({option}), and the generator behind {USUAL_BASE} was fitted to signals of "
                    f"the folds {listed}"
                )
    return ""
