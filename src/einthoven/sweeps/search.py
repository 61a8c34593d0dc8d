"""A sweep that chooses its runs by what came out of those before: Hydra's sweeper, Optuna's choice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hydra.plugins.sweeper import Sweeper

from einthoven.errors import UserError
from einthoven.report.sweep_note import METRICS
from einthoven.sweeps.space import choices, read

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from hydra.plugins.launcher import Launcher
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig
    from optuna.distributions import BaseDistribution


class Search(Sweeper):
    """Asks Optuna's TPE for each run, and tells it what the run reached.

    Nothing of the search is stored but its runs: the sampler is seeded, so that a search which is started again asks
    for the same runs, finds those that have finished in the tracking store, and goes on after them.

    Parameters
    ----------
    trials : int
        Configurations to try.
    startup : int
        So many of them are drawn at random, before the first is chosen.
    batch : int
        Configurations that are tried at once, for launchers that run several.
    seed : int
        Of the sampler.
    params : mapping, optional
        Option -> what it may be, in Hydra's grammar: ``tag(log, interval(1e-4, 1e-2))``, ``interval(0, 0.5)``,
        ``range(1, 5)``, or choices separated by commas. Several seeds are run of each configuration, whose value is
        their mean.
    """

    def __init__(
        self, trials: int, startup: int, batch: int, seed: int, params: Mapping[str, Any] | None = None
    ) -> None:
        self._trials, self._startup, self._batch, self._seed = trials, startup, batch, seed
        self._params = dict(params or {})
        self._launcher: Launcher
        self._context: HydraContext

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra runs jobs with."""
        from hydra.core.plugins import Plugins

        self._context = hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the search; an argument replaces the option of the same name in `params`.

        Raises
        ------
        UserError
            As of `plan`, or if no run has a metric on validation records.
        """
        fixed, seeds, space = self.plan(arguments, self._context.config_loader)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=self._seed, n_startup_trials=self._startup)
        )
        returns: list[Any] = []
        for size in _sizes(self._trials if space else 1, self._batch):
            trials = [study.ask(space) for _ in range(size)]
            jobs = [
                [*fixed, *(f"{name}={value}" for name, value in trial.params.items()), *seed]
                for trial, seed in itertools.product(trials, seeds)
            ]
            found = self._launcher.launch(jobs, initial_job_idx=len(returns))
            values = [_value(job.return_value) for job in found]
            for k, trial in enumerate(trials):
                value = math.fsum(values[k * len(seeds) : (k + 1) * len(seeds)]) / len(seeds)
                if math.isfinite(value):
                    study.tell(trial, value)
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
            returns += found
        return returns

    def plan(
        self, arguments: Sequence[str], loader: ConfigLoader | None
    ) -> tuple[list[str], list[list[str]], dict[str, BaseDistribution]]:
        """Options that every run has, the seeds of each configuration, and what is searched.

        Raises
        ------
        UserError
            If Optuna is not installed, a number is out of range, or an option is given numbers that cannot be searched.
        """
        for name, least in (("trials", 1), ("startup", 0), ("batch", 1)):
            value = getattr(self, f"_{name}")
            if value < least:
                raise UserError(f"hydra.sweeper.{name}={value}: expected a whole number, {least} or more.")
        if find_spec("optuna") is None:
            raise UserError("hydra/sweeper=tpe: optuna is not installed; install einthoven[search].")
        options = read(self._params, arguments, loader)
        seed = options.pop("seed", None)
        seeds = [[]] if seed is None else [[f"seed={value}"] for value in choices(seed)]
        fixed = [f"{name}={o.get_value_element_as_str()}" for name, o in options.items() if not o.is_sweep_override()]
        return fixed, seeds, {name: _distribution(o) for name, o in options.items() if o.is_sweep_override()}


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if override.is_interval_sweep():
        low, high, log = value.start, value.end, "log" in value.tags
        if not low <= high:
            raise UserError(f"{override.input_line}: from {low:g} to {high:g}; expected the smaller number first.")
        if log and low <= 0:
            raise UserError(f"{override.input_line}: logarithmic from {low:g}; expected numbers above 0.")
        whole = isinstance(low, int) and isinstance(high, int)
        kind = IntDistribution if whole else FloatDistribution
        return kind(low, high, log=log)
    if override.is_range_sweep():
        if not value.step > 0:
            raise UserError(f"{override.input_line}: a range in steps of {value.step}; expected steps above 0.")
        numbers = list(value.range())
        if not numbers:
            raise UserError(f"{override.input_line}: a range without a number; expected one or more.")
        if not value.shuffle:
            kind = IntDistribution if isinstance(numbers[0], int) else FloatDistribution
            return kind(numbers[0], numbers[-1], step=value.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _value(metrics: Mapping[str, float] | None) -> float:
    """What a run is judged by; NaN of one that failed."""
    if not metrics:
        return math.nan
    chosen = [name for name in METRICS if name.startswith("val/") and name in metrics]
    if not chosen:
        raise UserError("hydra/sweeper=tpe searches by the validation records, and data.folds.val gives none.")
    return metrics[chosen[0]]


def _sizes(trials: int, batch: int) -> Iterator[int]:
    for first in range(0, trials, batch):
        yield min(batch, trials - first)
