"""Learning-rate schedules as pure functions of the step.

Each returns the multiplier of the base learning rate (its peak is 1), so a schedule can be plotted before
a run and a resumed run is exact: nothing is remembered between steps. Steps count from 0 to
``total_steps - 1``; a step at or past the end holds the last value.
"""

from __future__ import annotations

import math

from einthoven.errors import UserError


def constant(step: int, total_steps: int) -> float:
    """Return 1 at every step."""
    _check_steps(step, total_steps)
    return 1.0


def cosine(step: int, total_steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Linear warm-up to 1, then half a cosine down to `floor`.

    With ``warmup=0`` it is equation 5 of Loshchilov & Hutter, "SGDR", 2017, without restarts.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps spent warming up, in [0, 1).
    floor
        Multiplier approached at the end of the run, in [0, 1].

    Raises
    ------
    UserError
        If `warmup` or `floor` is out of range.
    """
    _check_steps(step, total_steps)
    _check_fraction("warmup", warmup)
    if not 0.0 <= floor <= 1.0:
        raise UserError(f"schedule: floor must lie between 0 and 1, found {floor}")
    # A single step of training must still move the weights, hence at least one step after the warm-up.
    warmup_steps = min(round(warmup * total_steps), total_steps - 1)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min((step - warmup_steps) / (total_steps - warmup_steps), 1.0)
    return _anneal(1.0, floor, progress)


def one_cycle(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.3,
    start_divisor: float = 25.0,
    final_divisor: float = 1e4,
) -> float:
    """One cycle: cosine up from 1/`start_divisor` to 1, cosine down to nearly nothing.

    Smith & Topin, "Super-convergence", 2018, with cosine annealing both ways. The defaults are those of
    the PTB-XL benchmark (Strodthoff et al., 2021): 30 % of the steps upwards, from 1/25 of the
    peak, ending at 1/(25 * 10^4) of it. The benchmark also cycles the momentum; this schedule does not.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps spent rising, in [0, 1).
    start_divisor
        Peak over first learning rate, at least 1.
    final_divisor
        First over last learning rate, at least 1.

    Raises
    ------
    UserError
        If an option is out of range.
    """
    _check_steps(step, total_steps)
    _check_fraction("warmup", warmup)
    for name, divisor in (("start_divisor", start_divisor), ("final_divisor", final_divisor)):
        if divisor < 1.0:
            raise UserError(f"schedule: {name} must be at least 1, found {divisor}")
    start = 1.0 / start_divisor
    final = start / final_divisor
    peak_step = warmup * total_steps - 1.0
    last_step = total_steps - 1
    step = min(step, last_step)
    if peak_step > 0.0 and step <= peak_step:
        return _anneal(start, 1.0, step / peak_step)
    return _anneal(1.0, final, (step - peak_step) / (last_step - peak_step))


def step_decay(step: int, total_steps: int, *, every: float = 1 / 3, factor: float = 0.1) -> float:
    """Multiply by `factor` each time another fraction `every` of the run has passed.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    every
        Fraction of the run between two decays, in (0, 1].
    factor
        Multiplier of each decay, in (0, 1].

    Raises
    ------
    UserError
        If `every` or `factor` is out of range.
    """
    _check_steps(step, total_steps)
    for name, value in (("every", every), ("factor", factor)):
        if not 0.0 < value <= 1.0:
            raise UserError(f"schedule: {name} must lie in (0, 1], found {value}")
    # The margin keeps a boundary such as step 100 of 300 on its own side of one third.
    return float(factor ** math.floor(min(step, total_steps - 1) / (every * total_steps) + 1e-9))


def _anneal(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _check_steps(step: int, total_steps: int) -> None:
    if total_steps < 1 or step < 0:
        raise ValueError(f"expected step >= 0 and total_steps >= 1, found {step} of {total_steps}")


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise UserError(f"schedule: {name} is a fraction of the run in [0, 1), found {value}")
