"""Learning-rate schedules as pure functions of the step.

Each returns the multiplier of the base learning rate (its peak is 1), so a schedule can be plotted before
a run and a resumed run is exact: nothing is remembered between steps. Steps count from 0 to
``total_steps - 1``; a step at or past the end holds the last value. Options are fractions of the run, so that a
recipe keeps its shape when the run gets longer. The first step of a run has a multiplier above 0, however short the
run is, and the only step of a run has 1.

Every schedule can be warmed up: the first ``warmup`` of the steps rise in a straight line to its first value, and
the schedule itself runs over what remains (Goyal et al., "Accurate, large minibatch SGD", 2017, section 2.2).
`einthoven.optim.plateau` is the one that depends on more than the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

from einthoven.errors import UserError

MOST_CYCLES = 1000
LARGEST_LOG_GROWTH = 30.0  # the longest cycle over the shortest: about 1e13, which a float still tells from 0


def constant(step: int, total_steps: int, *, warmup: float = 0.0) -> float:
    """Return 1 at every step after the warm-up."""
    return warmed(step, total_steps, warmup, lambda done: 1.0)


def linear(step: int, total_steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Go down in a straight line from 1 towards `floor`."""
    _check_unit("floor", floor)
    return warmed(step, total_steps, warmup, lambda done: 1.0 - (1.0 - floor) * done)


def polynomial(step: int, total_steps: int, *, warmup: float = 0.0, power: float = 2.0, floor: float = 0.0) -> float:
    """Go down from 1 towards `floor` as a power of what remains of the run; `power` 1 is `linear`.

    Chen et al., "DeepLab", 2018, section 4.1 (the "poly" policy).
    """
    _check_unit("floor", floor)
    if not 0.0 < power < math.inf:
        raise UserError(f"schedule: power must be a positive number, found {power}")
    return warmed(step, total_steps, warmup, lambda done: floor + (1.0 - floor) * (1.0 - done) ** power)


def exponential(step: int, total_steps: int, *, warmup: float = 0.0, final: float = 0.01) -> float:
    """Shrink by the same factor at every step, from 1 towards `final`, in (0, 1]."""
    _check_positive_fraction("final", final)
    return warmed(step, total_steps, warmup, lambda done: float(final**done))


def step_decay(step: int, total_steps: int, *, warmup: float = 0.0, every: float = 1 / 3, factor: float = 0.1) -> float:
    """Multiply by `factor` each time another fraction `every` of the run has passed.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps spent warming up, in [0, 1); `every` is a fraction of the rest.
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
    # The margin keeps a boundary such as step 100 of 300 on its own side of one third.
    return warmed(step, total_steps, warmup, lambda done: float(factor ** math.floor(done / every + 1e-9)), hold=True)


def multistep(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.0,
    milestones: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
) -> float:
    """Multiply by `factor` at each milestone, a fraction of the run.

    The default is that of He et al., "Deep residual learning", 2016, section 4.2: tenths at half and three quarters.
    """
    _check_positive_fraction("factor", factor)
    if any(not 0.0 < m < 1.0 for m in milestones) or list(milestones) != sorted(milestones):
        raise UserError(f"schedule: milestones must ascend within (0, 1), found {list(milestones)}")
    return warmed(
        step, total_steps, warmup, lambda done: float(factor ** sum(done >= m - 1e-9 for m in milestones)), hold=True
    )


def cosine(step: int, total_steps: int, *, warmup: float = 0.1, floor: float = 0.0) -> float:
    """Half a cosine from 1 down to `floor`.

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
    _check_unit("floor", floor)
    return warmed(step, total_steps, warmup, lambda done: _anneal(1.0, floor, done))


def cosine_restarts(
    step: int,
    total_steps: int,
    *,
    warmup: float = 0.0,
    cycles: int = 3,
    growth: float = 2.0,
    floor: float = 0.0,
) -> float:
    """Cosines down to `floor`, one after another, each `growth` times as long as the one before.

    Loshchilov & Hutter, "SGDR", 2017, equation 5 with T_mult = `growth`; here the run is filled by `cycles` of them,
    so that it ends at the end of one.
    """
    _check_unit("floor", floor)
    if not 1 <= cycles <= MOST_CYCLES or not 0.0 < growth < math.inf:
        raise UserError(
            f"schedule: cycles must lie between 1 and {MOST_CYCLES} and growth be a positive number, "
            f"found {cycles} and {growth}"
        )
    # A growth so extreme that one cycle has no length, or no finite one, leaves no shape to compute.
    if not abs(math.log(growth)) * cycles < LARGEST_LOG_GROWTH:
        raise UserError(f"schedule: growth={growth} makes {cycles} cycles too unequal; expected a growth nearer to 1")
    ends = list(accumulate(growth**k for k in range(cycles)))

    def shape(done: float) -> float:
        at = done * ends[-1]
        # The margin keeps a restart that falls on a step on that step.
        cycle = sum(at >= end - 1e-9 * ends[-1] for end in ends[:-1])
        begun = ends[cycle - 1] if cycle else 0.0
        return _anneal(1.0, floor, max(at - begun, 0.0) / (ends[cycle] - begun))

    return warmed(step, total_steps, warmup, shape)


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
        if not 1.0 <= divisor < math.inf:
            raise UserError(f"schedule: {name} must be a number of at least 1, found {divisor}")
    if total_steps == 1:  # the one step is the peak: a run of one step must move the weights
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
    """Rise, stay at 1, and go down to `floor` over the last fraction `decay`, as one minus a square root.

    Hu et al., "MiniCPM", 2024, section 4; the shape of the decay from Hägele et al., "Scaling laws and
    compute-optimal training beyond fixed training durations", 2024, section 4.
    """
    _check_unit("floor", floor)
    if not 0.0 < decay <= 1.0 - warmup:
        raise UserError(f"schedule: decay must lie above 0 and leave room for warmup={warmup}, found {decay}")
    decays = decay / (1.0 - warmup)  # of what remains after the warm-up

    def shape(done: float) -> float:
        down = max(0.0, 1.0 - (1.0 - done) / decays)
        return 1.0 - (1.0 - floor) * math.sqrt(down)

    return warmed(step, total_steps, warmup, shape)


def inverse_sqrt(step: int, total_steps: int, *, warmup: float = 0.1) -> float:
    """Rise in a straight line, then fall as one over the square root of the step.

    Vaswani et al., "Attention is all you need", 2017, equation 3, scaled to a peak of 1.
    """
    _check_fraction("warmup", warmup)
    if warmup == 0.0:
        raise UserError("schedule: inverse_sqrt falls as the root of warmup over step; warmup must be above 0")
    share = 1.0 - warmup
    return warmed(step, total_steps, warmup, lambda done: math.sqrt(warmup / (warmup + share * done)))


def range_test(step: int, total_steps: int, *, start: float = 1e-5) -> float:
    """Rise by the same factor at every step from `start` to 1: the learning-rate range test.

    Where the loss falls fastest is a good learning rate, where it starts to rise one that is too large: Smith,
    "Cyclical learning rates for training neural networks", 2017, section 3.3; the exponential rise is Howard and
    Gugger's. ``optimizer.lr`` is the largest that is tried.
    """
    if not 0.0 < start < 1.0:
        raise UserError(f"schedule: start must lie in (0, 1), found {start}")
    _check_steps(step, total_steps)
    if total_steps == 1:  # the one step has the largest rate: a run of one step must move the weights
        return 1.0
    return float(start ** (1.0 - min(step, total_steps - 1) / (total_steps - 1)))


def warmed(step: int, total_steps: int, warmup: float, shape: Callable[[float], float], *, hold: bool = False) -> float:
    """Compose a warm-up with the shape of a schedule.

    Parameters
    ----------
    step, total_steps
        Current step (from 0) and number of steps in the run.
    warmup
        Fraction of all steps spent rising to ``shape(0)`` in a straight line, in [0, 1).
    shape
        Finished share of what remains, in [0, 1] -> multiplier.
    hold
        Past the end, stay at the value of the last step, instead of that of the end: for shapes that jump.

    Raises
    ------
    UserError
        If `warmup` is out of range.
    """
    _check_steps(step, total_steps)
    _check_fraction("warmup", warmup)
    # A single step of training must still move the weights, hence at least one step after the warm-up.
    rising = min(round(warmup * total_steps), total_steps - 1)
    if step < rising:
        return shape(0.0) * (step + 1) / (rising + 1)
    last = total_steps - 1 if hold else total_steps
    return shape((min(step, last) - rising) / (total_steps - rising))


def _anneal(start: float, end: float, progress: float) -> float:
    """Half a cosine from `start` (progress 0) to `end` (progress 1)."""
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
