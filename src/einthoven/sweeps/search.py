"""A Hydra sweeper that searches: Optuna chooses each run from the results of the runs before."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from einthoven.errors import UserError
from einthoven.report.sweep_note import METRICS, answering_metrics
from einthoven.sweeps.launching import LaunchingSweeper
from einthoven.sweeps.space import choices, read

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution


class Search(LaunchingSweeper):
    """Searches with the tree-structured Parzen estimator (TPE) of Optuna.

    The search itself is not stored. The sampler is seeded, so a search that is started again asks for the same runs,
    finds the finished ones in the tracking store, and goes on after them.

    Parameters
    ----------
    trials : int
        Number of configurations to try.
    startup : int
        Number of configurations that are drawn at random before the first one is chosen.
    batch : int
        Number of configurations that are tried at once, for launchers that start several runs.
    seed : int
        Seed of the sampler.
    params : mapping, optional
        Option -> its possible values in Hydra's grammar: ``tag(log, interval(1e-4, 1e-2))``, ``interval(0, 0.5)``,
        ``range(1, 5)``, or choices separated by commas. If there are several seeds, each configuration is run with
        each seed, and its value is the mean.
    """

    def __init__(
        self, trials: int, startup: int, batch: int, seed: int, params: Mapping[str, Any] | None = None
    ) -> None:
        self._trials = trials
        self._startup = startup
        self._batch = batch
        self._seed = seed
        self._params = dict(params or {})

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run the search. An argument replaces the option of the same name in `params`.

        Raises
        ------
        UserError
            As `plan`, or if a run has no metric on validation records.
        """
        fixed, seeds, space = self.plan(arguments, self.context.config_loader)
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.TPESampler(seed=self._seed, n_startup_trials=self._startup)
        )
        # Without an option to search, there is one configuration.
        trial_count = self._trials if space else 1
        returns: list[Any] = []
        for first in range(0, trial_count, self._batch):
            # Ask for a batch of configurations, and run each with each seed.
            trials = [study.ask(space) for _ in range(min(self._batch, trial_count - first))]
            jobs = []
            for trial, seed in itertools.product(trials, seeds):
                searched = [f"{name}={value}" for name, value in trial.params.items()]
                jobs.append([*fixed, *searched, *seed])
            batch_returns = self.launcher.launch(jobs, initial_job_idx=len(returns))
            returns += batch_returns

            # Report the mean over the seeds. NaN means that a run failed.
            values = [_value(job.return_value) for job in batch_returns]
            for number, trial in enumerate(trials):
                values_of_trial = values[number * len(seeds) : (number + 1) * len(seeds)]
                mean = math.fsum(values_of_trial) / len(seeds)
                if math.isfinite(mean):
                    study.tell(trial, mean)
                else:
                    study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return returns

    def plan(
        self, arguments: Sequence[str], loader: ConfigLoader | None
    ) -> tuple[list[str], list[list[str]], dict[str, BaseDistribution]]:
        """Read the options that every run has, the seeds of a configuration, and the options that are searched.

        Without a seed, there is one empty list of options. An option that is searched has the distribution of Optuna.
        """
        for name, minimum in (("trials", 1), ("startup", 0), ("batch", 1)):
            value = getattr(self, f"_{name}")
            if value < minimum:
                raise UserError(f"hydra.sweeper.{name}={value}: expected a whole number, {minimum} or more.")
        if find_spec("optuna") is None:
            raise UserError("hydra/sweeper=tpe: optuna is not installed; install einthoven[search].")

        overrides = read(self._params, arguments, loader)
        seed = overrides.pop("seed", None)
        seeds = [[]] if seed is None else [[f"seed={value}"] for value in choices(seed)]
        fixed = []
        space = {}
        for name, override in overrides.items():
            if override.is_sweep_override():
                space[name] = _distribution(override)
            else:
                fixed.append(f"{name}={override.get_value_element_as_str()}")
        return fixed, seeds, space


def _distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws the values of an option from.

    Raises a `UserError` if the numbers cannot be searched.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if override.is_interval_sweep():
        low, high = value.start, value.end
        is_log = "log" in value.tags
        if not low <= high:
            raise UserError(f"{override.input_line}: from {low:g} to {high:g}; expected the smaller number first.")
        if is_log and low <= 0:
            raise UserError(f"{override.input_line}: logarithmic from {low:g}; expected numbers above 0.")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=is_log)
        return FloatDistribution(low, high, log=is_log)

    if override.is_range_sweep():
        if not value.step > 0:
            raise UserError(f"{override.input_line}: a range in steps of {value.step}; expected steps above 0.")
        numbers = list(value.range())
        if not numbers:
            raise UserError(f"{override.input_line}: a range without a number; expected one or more.")
        # A shuffled range has no order, so its numbers are choices.
        if not value.shuffle:
            distribution = IntDistribution if isinstance(numbers[0], int) else FloatDistribution
            return distribution(numbers[0], numbers[-1], step=value.step)
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _value(metrics: Mapping[str, float] | None) -> float:
    """Return the metric that the search maximizes; NaN for a run that failed."""
    if not metrics:
        return math.nan
    answering = answering_metrics(metrics)
    for name in METRICS:
        if name.startswith("val/") and name in answering:
            return answering[name]
    raise UserError("hydra/sweeper=tpe searches by the validation records, and data.folds.val gives none.")
