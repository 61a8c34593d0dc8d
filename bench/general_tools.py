"""What a general tool says about the runs of bench_advice.py: traintools (pip install traintools==0.6.2).

It has no reader of logs. So it watches the live training: a batch, the gradients after the backward pass, and the units
of an extra forward pass, every twentieth step, which is how often the metrics of the advice are measured.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.runs.network_run import NetworkRun

INTERVAL = 20

NAMES: Mapping[str, str] = {
    "constant_input": r"inputs is nearly constant",
    "wrong_scale": r"inputs abs max",
    "missing_class": r"dominant class",
    "broken_init": r"vanished|DORMANT",
    "learning_rate_high": r"ratio is high|very large|non-finite",
    "diverged": r"non-finite",
    "vanishing_gradient": r"vanished",
    "exploding_gradient": r"very large",
    "clipped_steps": r"clipping threshold",
    "learning_rate_low": r"ratio is tiny",
    "dead_units": r"dormant",
    "strong_augmentation": r"inputs (is nearly constant|abs max)",
    "collapsed_posterior": r"rank-collapsed",
}
"""Rule of our advice -> warnings of traintools that name the same cause. Other causes have no warning there."""


class Traintools:
    """The warnings of `BatchInspector`, `GradientHealthMonitor` and `PlasticityProbe` during a run."""

    def __init__(self) -> None:
        self._inspections = 0
        self._warnings: Counter[str] = Counter()

    def watch(self, run: NetworkRun) -> None:
        """Inspect every twentieth step of a run, after its backward pass."""
        from traintools import (  # type: ignore[import-not-found]
            BatchInspector,
            GradientHealthMonitor,
            PlasticityProbe,
        )

        batches = BatchInspector()
        gradients = GradientHealthMonitor(max_grad_norm=run.settings.trainer.clip_norm)
        measure: Any = run.diagnose.before_update
        step = 0

        def before_update(batch: Batch, outputs: Tensor) -> Any:
            nonlocal step
            if step % INTERVAL == 0:
                # A pretraining has no labels.
                labels = batch.y if batch.y.numel() else None
                found = set(batches.inspect(batch.x, labels, step=step).warnings)
                rate = run.optimizer.param_groups[0]["lr"]
                found |= set(gradients.inspect(run.model, step=step, lr=rate).warnings)
                found |= _units(PlasticityProbe(run.model), run.model, batch.x)
                self._inspections += 1
                self._warnings.update({_kind(warning) for warning in found})
            step += 1
            return measure(batch, outputs)

        vars(run.diagnose)["before_update"] = before_update

    def verdict(self, expected: tuple[str, ...]) -> str:
        """Return whether the tool names the cause in any step, or warns of a healthy run in most of its steps.

        That a gradient is clipped is no false alarm.
        """
        if expected:
            patterns = [NAMES[rule] for rule in expected if rule in NAMES]
            is_named = any(re.search(pattern, kind, re.IGNORECASE) for pattern in patterns for kind in self._warnings)
            return "cause named" if is_named else "cause not named"
        alarms = [
            kind
            for kind, count in self._warnings.items()
            if 2 * count > self._inspections and "clipping threshold" not in kind
        ]
        return "healthy run, false alarm" if alarms else "healthy run, no alarm"

    def summary(self) -> str:
        """Return the kinds of warnings, and the share of the inspections with each."""
        return ", ".join(f"{kind} {count}/{self._inspections}" for kind, count in self._warnings.most_common(6))


def _units(probe: Any, model: nn.Module, x: Tensor) -> set[str]:
    """Return the flags of critical layers in a forward pass of a batch."""
    was_training = model.training
    with torch.no_grad():
        model.eval()(x)
    model.train(was_training)
    flags = set()
    for layer in probe.measure().layers:
        if layer.is_critical():
            flags |= set(layer.flags)
    probe.remove_hooks()
    return flags


def _kind(warning: str) -> str:
    """Return a warning without names of layers and numbers."""
    text = re.sub(r"\([^)]*\)|[\d.]+(e[+-]?\d+)?%?|\b(inf|nan)\b", "", warning)
    return (
        re.sub(r"^(?!inputs|targets)[\w.]+\s(?=gradient|has|update|abs|is nearly)", "", text).replace(">", "").strip()
    )
