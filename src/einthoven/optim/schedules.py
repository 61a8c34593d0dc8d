"""Learning-rate schedules as pure functions of the step.

Each function returns the multiplier of the base learning rate. The peak of the multiplier is 1. The functions have no
state, so a schedule can be plotted before a run, and a resumed run is exact. Steps count from 0 to ``total_steps - 1``.
A step at or after the end has the last value. Options are fractions of the run, so that a longer run has the same
shape. The first step of a run has a multiplier above 0, also in a short run. In a run of one step, the multiplier is 1.

Most schedules have a warm-up: in the first ``warmup`` of the steps, the multiplier rises in a straight line to the
first value of the schedule, and the schedule fills the remaining steps (Goyal et al., "Accurate, large minibatch SGD",
2017, section 2.2). Only `einthoven.optim.plateau` depends on more than the step.

The parameters of every function are ``step`` (from 0), ``total_steps`` (number of steps in the run) and its options. An
option out of its range raises a `UserError`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from einthoven.errors import UserError

MOST_CYCLES = 1000
LARGEST_LOG_GROWTH = 30.0
"""Logarithm of the longest cycle over the shortest cycle. With more, a float cannot represent the shortest cycle."""


def constant(step: int, total_steps: int, *, warmup: float = 0.0) -> float:
    """Return 1 at every step after the warm-up."""
    return warmed(step, total_steps, warmup, lambda progress: 1.0)


def linear(step: int, total_steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Fall in a straight line from 1 towards `floor`."""
    _check_unit("floor", floor)
    return warmed(step, total_steps, warmup, lambda progress: 1.0 - (1.0 - floor) * progress)


def polynomial(step: int, total_steps: int, *, warmup: float = 0.0, power: float = 2.0, floor: float = 0.0) -> float:
    """Fall from 1 towards `floor` as a power of the remaining share of the run. With `power` 1 it is `linear`.

    Chen et al., "DeepLab", 2018, section 4.1 (the "poly" policy).
    """
    _check_unit("floor", floor)
    if not 0.0 < power < math.inf:
        raise UserError(f"schedule: power must be a positive number, found {power}")
    return warmed(step, total_steps, warmup, lambda progress: floor + (1.0 - floor) * (1.0 - progress) ** power)


def exponential(step: int, total_steps: int, *, warmup: float = 0.0, final: float = 0.01) -> float:
    """Fall by the same factor in every step, from 1 towards `final`, which lies in (0, 1]."""
    _check_positive_fraction("final", final)
    return warmed(step, total_steps, warmup, lambda progress: float(final**progress))


def step_decay(step: int, total_steps: int, *, warmup: float = 0.0, every: float = 1 / 3, factor: float = 0.1) -> float:
    """Multiply by `factor` after each fraction `every` of the run.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps in the warm-up, in [0, 1); `every` is a fraction of the steps after it.
    every
        Fraction of the run between two decays, from a millionth to 1.
    factor
        Multiplier of each decay, in (0, 1].

    Raises
    ------
    UserError
        If an option is out of range.
    """
    if not 1e-6 <= every <= 1.0:
        raise UserError(f"schedule: every must lie between 1e-06 and 1, found {every}")
    _check_positive_fraction("factor", factor)

    def shape(progress: float) -> float:
        # Rounding can put step 100 of 300 below one third. The margin puts it on the boundary.
        decays = math.floor(progress / every + 1e-9)
        return float(factor**decays)

    return warmed(step, total_steps, warmup, shape, hold=True)


def multistep(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> float:
    """Multiply by `factor` at each milestone, which is a fraction of the run.

    The default is the schedule of He et al., "Deep residual learning", 2016, section 4.2: the multiplier falls to a
    tenth at half of the run, and again at three quarters.
    """
    _check_positive_fraction("factor", factor)
    if any(not 0.0 < m < 1.0 for m in milestones) or list(milestones) != sorted(milestones):
        raise UserError(f"schedule: milestones must ascend within (0, 1), found {list(milestones)}")

    def shape(progress: float) -> float:
        # The margin absorbs rounding errors, so that a step on a milestone counts.
        passed = sum(progress >= milestone - 1e-9 for milestone in milestones)
        return float(factor**passed)

    return warmed(step, total_steps, warmup, shape, hold=True)


def cosine(step: int, total_steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Fall as half a cosine from 1 to `floor`.

    With ``warmup=0`` it is equation 5 of Loshchilov & Hutter, "SGDR", 2017, without restarts.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps in the warm-up, in [0, 1).
    floor
        Multiplier that the end of the run approaches, in [0, 1].

    Raises
    ------
    UserError
        If `warmup` or `floor` is out of range.
    """
    _check_unit("floor", floor)
    return warmed(step, total_steps, warmup, lambda progress: _anneal(1.0, floor, progress))


def cosine_restarts(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.0,
    cycles: int = 3,
    growth: float = 2.0,
    floor: float = 0.0,
) -> float:
    """Repeat the fall of `cosine`. Each cycle is `growth` times as long as the cycle before it.

    Loshchilov & Hutter, "SGDR", 2017, equation 5 with T_mult = `growth`. Here `cycles` cycles fill the run, so that the
    run ends at the end of a cycle.
    """
    _check_unit("floor", floor)
    if not 1 <= cycles <= MOST_CYCLES or not 0.0 < growth < math.inf:
        raise UserError(
            f"schedule: cycles must lie between 1 and {MOST_CYCLES} and growth be a positive number, "
            f"found {cycles} and {growth}"
        )
    # With an extreme growth, the shortest cycle has no length in floats.
    if not abs(math.log(growth)) * cycles < LARGEST_LOG_GROWTH:
        raise UserError(f"schedule: growth={growth} makes {cycles} cycles too unequal; expected a growth nearer to 1")
    # The first cycle has length 1.
    ends = list(accumulate(growth**k for k in range(cycles)))
    total_length = ends[-1]

    def shape(progress: float) -> float:
        position = progress * total_length
        # The margin absorbs rounding errors, so that a restart that falls on a step happens in that step.
        cycle = sum(position >= end - 1e-9 * total_length for end in ends[:-1])
        start = ends[cycle - 1] if cycle else 0.0
        return _anneal(1.0, floor, max(position - start, 0.0) / (ends[cycle] - start))

    return warmed(step, total_steps, warmup, shape)


def one_cycle(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.3,
    start_divisor: float = 25.0,
    final_divisor: float = 1e4,
) -> float:
    """Rise as half a cosine from 1/`start_divisor` to 1, then fall as half a cosine to nearly 0.

    Smith & Topin, "Super-convergence", 2018, with cosine annealing in both directions. The defaults are the values of
    the PTB-XL benchmark (Strodthoff et al., 2021): the multiplier rises in 30 % of the steps, starts at 1/25 of the
    peak and ends at 1/(25 * 10^4) of it. The benchmark also cycles the momentum. This schedule does not.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps with a rising multiplier, in [0, 1).
    start_divisor
        Peak learning rate divided by the first learning rate, at least 1.
    final_divisor
        First learning rate divided by the last learning rate, at least 1.

    Raises
    ------
    UserError
        If an option is out of range.
    """
    _check_steps(step, total_steps)
    _check_fraction("warmup", warmup)
    for name, divisor in (("start_divisor", start_divisor), ("final_divisor", final_divisor)):
        if not 1.0 <= divisor < math.inf:
            raise UserError(f"schedule: {name} must be a number of at least 1, found {divisor}")
    # A run of one step must change the weights, so its only step is the peak.
    if total_steps == 1:
        return 1.0
    start = 1.0 / start_divisor
    final = start / final_divisor
    peak_step = warmup * total_steps - 1.0
    last_step = total_steps - 1
    step = min(step, last_step)
    if peak_step > 0.0 and step <= peak_step:
        return _anneal(start, 1.0, step / peak_step)
    return _anneal(1.0, final, (step - peak_step) / (last_step - peak_step))


def warmup_stable_decay(
    step: int, total_steps: int, *, warmup: float = 0.1, decay: float = 0.2, floor: float = 0.0
) -> float:
    """Rise, stay at 1, and fall to `floor` in the last fraction `decay`, as one minus a square root.

    Hu et al., "MiniCPM", 2024, section 4. The shape of the decay is from Hägele et al., "Scaling laws and
    compute-optimal training beyond fixed training durations", 2024, section 4.
    """
    _check_unit("floor", floor)
    if not 0.0 < decay <= 1.0 - warmup:
        raise UserError(f"schedule: decay must lie above 0 and leave room for warmup={warmup}, found {decay}")
    # `decay` is a fraction of all steps, `progress` is a fraction of the steps after the warm-up.
    decay_share = decay / (1.0 - warmup)

    def shape(progress: float) -> float:
        decay_progress = max(0.0, 1.0 - (1.0 - progress) / decay_share)
        return 1.0 - (1.0 - floor) * math.sqrt(decay_progress)

    return warmed(step, total_steps, warmup, shape)


def inverse_sqrt(step: int, total_steps: int, *, warmup: float = 0.1) -> float:
    """Rise in a straight line, then fall as one over the square root of the step.

    Vaswani et al., "Attention is all you need", 2017, equation 3, scaled to a peak of 1.
    """
    _check_fraction("warmup", warmup)
    if warmup == 0.0:
        raise UserError("schedule: inverse_sqrt falls as the root of warmup over step; warmup must be above 0")
    rest = 1.0 - warmup
    return warmed(step, total_steps, warmup, lambda progress: math.sqrt(warmup / (warmup + rest * progress)))


def range_test(step: int, total_steps: int, *, start: float = 1e-5) -> float:
    """Rise by the same factor in every step from `start` to 1: the learning-rate range test.

    A learning rate is good where the loss falls fastest, and too large where the loss starts to rise (Smith, "Cyclical
    learning rates for training neural networks", 2017, section 3.3). The exponential rise is from Howard and Gugger.
    ``optimizer.lr`` is the largest learning rate of the test.
    """
    if not 0.0 < start < 1.0:
        raise UserError(f"schedule: start must lie in (0, 1), found {start}")
    _check_steps(step, total_steps)
    # A run of one step must change the weights, so its only step has the largest rate.
    if total_steps == 1:
        return 1.0
    last_step = total_steps - 1
    return float(start ** (1.0 - min(step, last_step) / last_step))


def warmed(step: int, total_steps: int, warmup: float, shape: Callable[[float], float], *, hold: bool = False) -> float:
    """Return the multiplier of a schedule with a warm-up.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps in which the multiplier rises to ``shape(0)`` in a straight line, in [0, 1).
    shape
        Function that maps the progress after the warm-up, in [0, 1], to the multiplier.
    hold
        After the end, keep the multiplier of the last step instead of ``shape(1)``. For shapes that jump.

    Raises
    ------
    UserError
        If `warmup` is out of range.
    """
    _check_steps(step, total_steps)
    _check_fraction("warmup", warmup)
    # At least one step follows the warm-up, so that the only step of a run changes the weights.
    warmup_steps = min(round(warmup * total_steps), total_steps - 1)
    if step < warmup_steps:
        return shape(0.0) * (step + 1) / (warmup_steps + 1)
    last = total_steps - 1 if hold else total_steps
    progress = (min(step, last) - warmup_steps) / (total_steps - warmup_steps)
    return shape(progress)


def _anneal(start: float, end: float, progress: float) -> float:
    """Return the value of half a cosine from `start` (progress 0) to `end` (progress 1)."""
    return end + (start - end) * (1.0 + math.cos(math.pi * progress)) / 2.0


def _check_steps(step: int, total_steps: int) -> None:
    if total_steps < 1 or step < 0:
        raise ValueError(f"expected step >= 0 and total_steps >= 1, found {step} of {total_steps}")


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise UserError(f"schedule: {name} is a fraction of the run in [0, 1), found {value}")


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise UserError(f"schedule: {name} must lie between 0 and 1, found {value}")


def _check_positive_fraction(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise UserError(f"schedule: {name} must lie in (0, 1], found {value}")
