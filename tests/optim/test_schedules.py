from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from einthoven.build import build
from einthoven.errors import UserError
from einthoven.optim import schedules
from einthoven.optim.plateau import Plateau
from einthoven.optim.schedules import constant, cosine, one_cycle, step_decay
from einthoven.terminal.conf_folders import conf_folder

WARMED = {  # every pure schedule that is warmed up in a straight line
    name: getattr(schedules, name)
    for name in (
        "constant",
        "linear",
        "polynomial",
        "exponential",
        "step_decay",
        "multistep",
        "cosine",
        "cosine_restarts",
        "warmup_stable_decay",
    )
}

Scheduler = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


def torch_multipliers(make: Scheduler, total_steps: int, base: float = 1.0) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR warns about its own use of step()
        scheduler = make(optimizer)
        values = []
        for _ in range(total_steps):
            values.append(optimizer.param_groups[0]["lr"] / base)
            optimizer.step()
            scheduler.step()
    return values


@pytest.mark.parametrize("total", [10, 97, 300])
@pytest.mark.parametrize("warmup", [0.25, 0.3, 0.5])
def test_one_cycle_is_torch_one_cycle(total: int, warmup: float) -> None:
    expected = torch_multipliers(
        lambda o: torch.optim.lr_scheduler.OneCycleLR(
            o, max_lr=1.0, total_steps=total, pct_start=warmup, cycle_momentum=False
        ),
        total,
    )
    found = [one_cycle(step, total, warmup=warmup) for step in range(total)]
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_without_warmup_is_torch_cosine(floor: float) -> None:
    expected = torch_multipliers(lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=80, eta_min=floor), 80)
    found = [cosine(step, 80, warmup=0.0, floor=floor) for step in range(80)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_cosine_with_warmup_is_torch_linear_then_cosine() -> None:
    def make(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        lr = torch.optim.lr_scheduler
        rise = lr.LinearLR(optimizer, start_factor=1 / 21, total_iters=20)
        return lr.SequentialLR(optimizer, [rise, lr.CosineAnnealingLR(optimizer, T_max=180)], [20])

    found = [cosine(step, 200, warmup=0.1) for step in range(200)]
    assert found == pytest.approx(torch_multipliers(make, 200), abs=1e-9)


@pytest.mark.parametrize(("total", "every", "size"), [(300, 1 / 3, 100), (90, 0.1, 9), (7, 1.0, 7)])
def test_step_decay_is_torch_step(total: int, every: float, size: int) -> None:
    expected = torch_multipliers(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=size, gamma=0.3), total)
    found = [step_decay(step, total, every=every, factor=0.3) for step in range(total)]
    assert found == pytest.approx(expected, rel=1e-9)


lr = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("linear", {"floor": 0.2}, lambda o: lr.LinearLR(o, 1.0, 0.2, total_iters=90)),
        ("polynomial", {"power": 3.0}, lambda o: lr.PolynomialLR(o, total_iters=90, power=3.0)),
        ("exponential", {"final": 0.05}, lambda o: lr.ExponentialLR(o, gamma=0.05 ** (1 / 90))),
        ("multistep", {"milestones": [0.2, 0.5], "factor": 0.3}, lambda o: lr.MultiStepLR(o, [18, 45], gamma=0.3)),
        ("cosine_restarts", {"cycles": 3, "growth": 1.0}, lambda o: lr.CosineAnnealingWarmRestarts(o, T_0=30)),
        ("cosine_restarts", {"cycles": 2, "growth": 2.0}, lambda o: lr.CosineAnnealingWarmRestarts(o, 30, 2)),
    ],
)
def test_shapes_are_those_of_torch(name: str, options: dict[str, Any], make: Scheduler) -> None:
    found = [WARMED[name](step, 90, warmup=0.0, **options) for step in range(90)]
    assert found == pytest.approx(torch_multipliers(make, 90), abs=1e-9)


@pytest.mark.parametrize("name", WARMED)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.35])
def test_a_warm_up_composes_with_every_schedule(name: str, warmup: float) -> None:
    schedule, total = WARMED[name], 200
    rising = round(warmup * total)
    options = {"decay": 0.4} if name == "warmup_stable_decay" else {}
    values = [schedule(step, total, warmup=warmup, **options) for step in range(total)]
    assert values[:rising] == pytest.approx([(step + 1) / (rising + 1) for step in range(rising)])
    if name != "warmup_stable_decay":  # whose level part is a share of the whole run
        alone = [schedule(step, total - rising, warmup=0.0, **options) for step in range(total - rising)]
        assert values[rising:] == pytest.approx(alone)
    assert max(values) == pytest.approx(1.0)


def test_warm_up_stable_decay_is_level_until_its_end() -> None:
    values = [schedules.warmup_stable_decay(step, 1000, warmup=0.1, decay=0.2) for step in range(1001)]
    assert values[100:801] == pytest.approx([1.0] * 701)
    assert values[850] == pytest.approx(1 - math.sqrt(0.25)) and values[1000] == pytest.approx(0.0, abs=1e-9)


def test_inverse_square_root_is_that_of_the_transformer() -> None:
    total, rising = 1000, 100
    found = [schedules.inverse_sqrt(step, total, warmup=0.1) for step in range(total)]
    expected = [min((s + 1) / (rising + 1), math.sqrt(rising / max(s, 1))) for s in range(total)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_range_test_rises_by_one_factor_from_start_to_one() -> None:
    values = [schedules.range_test(step, 50, start=1e-4) for step in range(50)]
    ratios = [b / a for a, b in itertools.pairwise(values)]
    assert values[0] == pytest.approx(1e-4) and values[-1] == 1.0
    assert ratios == pytest.approx([ratios[0]] * 49) and ratios[0] > 1


def test_plateau_is_torchs_reduce_on_plateau() -> None:
    metrics = [0.5, 0.6, 0.6, 0.6, 0.6, 0.7, 0.65, 0.7, 0.6, 0.7, 0.69, 0.68, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    oracle = lr.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=2, threshold=1e-3, threshold_mode="abs", min_lr=0.2
    )
    schedule = Plateau(factor=0.5, patience=2, threshold=1e-3, floor=0.2)
    for metric in metrics:
        schedule.observe(metric)
        oracle.step(metric)
        assert schedule(10, 20) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert schedule(10, 20) == pytest.approx(0.25) or schedule(10, 20) == pytest.approx(0.2)


def test_plateau_continues_from_its_state_and_takes_nan_for_no_improvement() -> None:
    metrics = [0.5, float("nan"), 0.5, float("nan"), 0.6, 0.6, 0.6, 0.6]
    whole, first = Plateau(patience=1), Plateau(patience=1)
    for metric in metrics[:3]:
        whole.observe(metric)
        first.observe(metric)
    second = Plateau(patience=1)
    second.load_state_dict(first.state_dict())
    for metric in metrics[3:]:
        whole.observe(metric)
        second.observe(metric)
        assert whole(5, 10) == second(5, 10)
    assert whole(5, 10) < 1.0


def test_step_decay_never_decays_at_the_very_end() -> None:
    assert step_decay(99, 100) == pytest.approx(0.01)  # thirds of 100 steps: two decays, not three


def test_benchmark_ends() -> None:
    assert one_cycle(0, 1000) == pytest.approx(1 / 25)
    assert one_cycle(299, 1000) == pytest.approx(1.0)
    assert one_cycle(999, 1000) == pytest.approx(1 / (25 * 1e4))


CONFIGURED = sorted(path.stem for path in (conf_folder() / "schedule").glob("*.yaml"))


@pytest.mark.parametrize("option", CONFIGURED)
@pytest.mark.parametrize("total", [1, 2, 3, 4, 7])
def test_a_run_of_few_steps_moves_the_weights_at_its_first_step(option: str, total: int) -> None:
    schedule = build(OmegaConf.load(conf_folder() / "schedule" / f"{option}.yaml"), "schedule")
    values = [schedule(step, total) for step in range(total)]
    assert all(0.0 < value <= 1.0 for value in values)
    assert max(values) > 0.8
    if total == 1:
        assert values == [1.0]


totals = st.integers(1, 3000)
fractions = st.floats(0.0, 0.95)


@settings(deadline=None)
@given(total=totals, where=st.floats(0, 1.5), warmup=fractions, floor=st.floats(0, 1))
def test_every_multiplier_lies_in_0_1(total: int, where: float, warmup: float, floor: float) -> None:
    step = int(where * total)
    values = [
        constant(step, total),
        cosine(step, total, warmup=warmup, floor=floor),
        one_cycle(step, total, warmup=warmup),
        step_decay(step, total, every=max(warmup, 0.01)),
    ]
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in values)


@settings(deadline=None)
@given(total=st.integers(50, 3000), warmup=fractions)
def test_continuous(total: int, warmup: float) -> None:
    # |d multiplier / d step| is at most pi/2 over the length of the shorter branch (1/length if linear), and
    # a branch is up to a step shorter than its fraction, in whole steps.
    for schedule in (cosine, one_cycle):
        values = [schedule(step, total, warmup=warmup) for step in range(total)]
        shortest = max(min(warmup * total, (1 - warmup) * total) - 1, 1)
        jumps = [abs(a - b) for a, b in itertools.pairwise(values)]
        assert max(jumps) <= 1.6 / shortest + 1e-9


@settings(deadline=None)
@given(total=totals, warmup=fractions)
def test_single_peak(total: int, warmup: float) -> None:
    for schedule in (cosine, one_cycle, schedules.linear, schedules.polynomial, schedules.exponential):
        values = [schedule(step, total, warmup=warmup) for step in range(total)]
        top = values.index(max(values))
        assert values[: top + 1] == sorted(values[: top + 1])
        assert values[top:] == sorted(values[top:], reverse=True)


def test_past_the_end_holds() -> None:
    assert cosine(500, 100, floor=0.2) == pytest.approx(0.2)
    assert one_cycle(500, 100) == one_cycle(99, 100)
    assert step_decay(500, 100) == step_decay(99, 100)


@pytest.mark.parametrize(
    "call",
    [
        lambda: cosine(0, 10, warmup=1.0),
        lambda: cosine(0, 10, floor=-0.1),
        lambda: one_cycle(0, 10, warmup=-0.1),
        lambda: one_cycle(0, 10, start_divisor=0.0),
        lambda: step_decay(0, 10, every=0.0),
        lambda: step_decay(0, 10, factor=1.5),
        lambda: constant(0, 10, warmup=1.0),
        lambda: schedules.linear(0, 10, floor=2.0),
        lambda: schedules.polynomial(0, 10, power=0.0),
        lambda: schedules.exponential(0, 10, final=0.0),
        lambda: schedules.multistep(0, 10, milestones=[0.5, 0.2]),
        lambda: schedules.multistep(0, 10, milestones=[1.5]),
        lambda: schedules.cosine_restarts(0, 10, cycles=0),
        lambda: schedules.warmup_stable_decay(0, 10, warmup=0.5, decay=0.6),
        lambda: schedules.inverse_sqrt(0, 10, warmup=0.0),
        lambda: schedules.range_test(0, 10, start=1.0),
        lambda: float(Plateau(factor=1.0).state_dict()["multiplier"]),
        lambda: float(Plateau(patience=-1).state_dict()["multiplier"]),
        lambda: float(Plateau(threshold=math.nan).state_dict()["multiplier"]),
        lambda: float(Plateau(threshold=math.inf).state_dict()["multiplier"]),
        lambda: one_cycle(0, 10, start_divisor=math.nan),
        lambda: one_cycle(0, 10, final_divisor=math.inf),
        lambda: schedules.polynomial(0, 10, power=math.inf),
        lambda: schedules.cosine_restarts(0, 10, growth=math.inf),
        lambda: schedules.cosine_restarts(0, 10, growth=1e300),
        lambda: schedules.cosine_restarts(0, 10, growth=1e-300),
        lambda: schedules.cosine_restarts(0, 10, cycles=10**9),
    ],
)
def test_refuses_options_out_of_range(call: Callable[[], float]) -> None:
    with pytest.raises(UserError, match="schedule: "):
        call()


def test_refuses_impossible_steps() -> None:
    with pytest.raises(ValueError, match="-1 of 10"):
        constant(-1, 10)
    with pytest.raises(ValueError, match="0 of 0"):
        cosine(0, 0)
