"""Every measure of a step against a brute-force computation in float64."""

from __future__ import annotations

import contextlib
import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Batch, TaskKind
from einthoven.diagnostics.gradients import GradientCosine, clipping, gradient_norms_l1, nonfinite
from einthoven.diagnostics.moments import second_moment_spread
from einthoven.diagnostics.noise import NoiseScale, signal_and_noise
from einthoven.diagnostics.stages import stages
from einthoven.diagnostics.step import StepDiagnostics
from einthoven.diagnostics.weights import spectral_norm, spectral_norms, weight_norms
from einthoven.losses.classification import asymmetric, cross_entropy, focal
from einthoven.models.frontend import Classifier, Frontend
from einthoven.optim.muon import muon
from einthoven.optim.penalties import Penalty, ProximalL1
from einthoven.optim.sam import sam
from einthoven.tasks.classification import Classification
from einthoven.training.memory import MicroBatch
from einthoven.training.step import train_step
from intervals import intervals

EVERY_STEP = ("gradients", "gradients_l1", "clipping", "cosine", "noise_scale", "updates", "weights", "spectral")
ALL = (*EVERY_STEP, "second_moments", "predictions", "activations", "dead")


class Waves:
    """Several labels of a short signal."""

    kind = TaskKind.CLASSES
    single_label = False
    loss_is_cross_entropy = True

    def goal(self, batch: Batch) -> Tensor:
        return batch.y

    def class_logits(self, logits: Tensor) -> Tensor:
        return logits

    def reference(self, y: Tensor) -> Tensor:
        return y

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        logits = model(batch.x)
        losses = nn.functional.binary_cross_entropy_with_logits(logits, batch.y, reduction="none").mean(-1)
        return (losses * batch.valid).sum() / batch.valid.sum(), logits

    def activation(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def a_batch(seed: int = 0, size: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(size, 2, 20, generator=generator), torch.rand(size, 3, generator=generator) < 0.4
    return Batch(x, y.float(), torch.arange(size), torch.ones(size, dtype=torch.bool))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, 5, 7), nn.BatchNorm1d(5), nn.ReLU())
        self.body = nn.Linear(5, 6)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(6, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.stem(x).mean(-1)).tanh())
        return logits


def a_model(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(Frontend(2), Net())


def step(model: nn.Module, optimizer: Any, batch: Batch, clip: float = math.inf, **more: Any) -> dict[str, Tensor]:
    return train_step(
        model,
        Waves(),
        batch,
        optimizer,
        augment=lambda x, y, generator: (x, y),
        generator=torch.Generator().manual_seed(int(batch.x[0, 0, 0] * 1000) % 100),
        autocast=contextlib.nullcontext,
        clip_norm=clip,
        **{"penalty": Penalty(), **more},
    )


def diagnosing(model: Classifier, optimizer: Any, parts: int = 2, **every: int | None) -> StepDiagnostics:
    return StepDiagnostics(model, Waves(), optimizer, intervals(**every), autocast=contextlib.nullcontext, parts=parts)


def weights(parameters: Any) -> NDArray[np.float64]:
    return np.concatenate([p.detach().double().numpy().ravel() for p in parameters])


def gradient(model: nn.Module) -> NDArray[np.float64]:
    return np.concatenate([p.grad.double().numpy().ravel() for p in model.parameters() if p.grad is not None])


# ---------------------------------------------------------------- gradients


def test_l1_norms_and_counts_of_what_is_no_number() -> None:
    model = a_model()
    Waves().loss(model, a_batch())[0].backward()
    parts = stages(model.network)
    found = gradient_norms_l1(parts)
    for name, parameters in parts.items():
        expected = sum(p.grad.double().abs().sum().item() for p in parameters)
        assert found[f"watch/grad/norm_l1/{name}"].item() == pytest.approx(expected, rel=1e-5)
    assert nonfinite(parts).item() == 0
    for parameter, value in (
        (parts["stem"][0], torch.nan),
        (parts["body"][0], torch.inf),
        (parts["head"][1], -torch.inf),
    ):
        parameter.grad.view(-1)[:2] = value
    assert nonfinite(parts).item() == 6


@pytest.mark.parametrize("clip", [0.01, 100.0, math.inf])
def test_clipping_tells_the_norm_that_the_optimizer_got(clip: float) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    seen = step(model, optimizer, a_batch(), clip, diagnose=diagnosing(model, optimizer, clipping=1))
    assert seen["watch/grad/norm_clipped"].item() == pytest.approx(np.linalg.norm(gradient(model)), rel=1e-4)
    assert seen["watch/grad/clipped"].item() == (clip == 0.01)
    assert clipping(torch.tensor(3.0), 2.0) == {"watch/grad/clipped": 1.0, "watch/grad/norm_clipped": 2.0}


@pytest.mark.parametrize("every", [1, 3])
def test_the_cosine_is_that_of_the_gradients_of_two_successive_steps(every: int) -> None:
    model = a_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    diagnose = diagnosing(model, optimizer, cosine=every)
    gradients, found = [], {}
    for number in range(8):
        seen = step(model, optimizer, a_batch(number), diagnose=diagnose)
        gradients.append(gradient(model))
        found |= {number: seen["watch/grad/cosine"].item()} if "watch/grad/cosine" in seen else {}
    assert sorted(found) == [k for k in range(1, 8) if k % every == 0]
    for number, value in found.items():
        a, b = gradients[number - 1], gradients[number]
        assert value == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-4)


def test_the_cosine_continues_where_it_was() -> None:
    model = a_model()
    first, second = GradientCosine(parts := stages(model.network), 2), GradientCosine(parts, 2)
    for number in range(2):
        model.zero_grad()
        Waves().loss(model, a_batch(number))[0].backward()
        assert first.update(number) == {}
    second.load_state_dict(first.state_dict())
    model.zero_grad()
    Waves().loss(model, a_batch(2))[0].backward()
    assert first.update(2)["watch/grad/cosine"] == second.update(2)["watch/grad/cosine"]


# ---------------------------------------------------------------- noise scale


def per_record(model: nn.Module, batch: Batch) -> NDArray[np.float64]:
    """The gradient of each record by itself, one a row."""
    found = []
    for k in range(len(batch.x)):
        model.zero_grad()
        one = Batch(batch.x[k : k + 1], batch.y[k : k + 1], batch.index[k : k + 1], batch.valid[k : k + 1])
        Waves().loss(model, one)[0].backward()
        found.append(gradient(model))
    return np.array(found)


def linear_model() -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(40, 4), nn.Tanh(), nn.Linear(4, 3))
    return Classifier(Frontend(2), network).double()


def double(batch: Batch) -> Batch:
    return Batch(batch.x.double(), batch.y.double(), batch.index, batch.valid)


@pytest.mark.parametrize("parts", [2, 4])
def test_signal_and_noise_are_those_of_per_record_gradients(parts: int) -> None:
    model, batch = linear_model(), double(a_batch(size=24))
    rows, size = per_record(model, batch), 24 // parts
    small = np.array([rows[k * size : (k + 1) * size].mean(0) for k in range(parts)])
    tensors = [[torch.from_numpy(g[:50]), torch.from_numpy(g[50:])] for g in small]
    signal, noise = signal_and_noise(tensors, size)
    # of the n gradients: their products in pairs, and their sample variance times the records in each
    pairs = [a @ b for i, a in enumerate(small) for j, b in enumerate(small) if i != j]
    assert signal.item() == pytest.approx(np.mean(pairs))
    assert noise.item() == pytest.approx(size * small.var(axis=0, ddof=1).sum())
    found = NoiseScale(model, Waves(), contextlib.nullcontext, parts).update(batch)
    expected = noise / signal if signal > 0 else torch.tensor(torch.nan, dtype=torch.float64)
    torch.testing.assert_close(found, expected, equal_nan=True)


def test_the_noise_scale_is_unbiased() -> None:
    """Over all ways to draw two halves of a population, the means are its ‖G‖² and tr Σ exactly."""
    rows = per_record(linear_model(), double(a_batch(1, size=6)))
    drawn = [
        signal_and_noise([[torch.from_numpy(rows[i])], [torch.from_numpy(rows[j])]], 1)
        for i in range(6)
        for j in range(6)  # with replacement: independent
    ]
    signal, noise = (np.mean([pair[k].item() for pair in drawn]) for k in (0, 1))
    assert signal == pytest.approx((rows.mean(0) ** 2).sum())
    assert noise == pytest.approx(rows.var(axis=0).sum())


def test_numerator_and_denominator_are_averaged_apart() -> None:
    model, horizon = linear_model(), 4.0
    scale = NoiseScale(model, Waves(), contextlib.nullcontext, 2, horizon)
    noises, signals = [], []
    for number in range(6):
        batch = double(a_batch(number))
        rows = per_record(model, batch)
        halves = [[torch.from_numpy(rows[k * 8 : k * 8 + 8].mean(0))] for k in (0, 1)]
        signal, noise = (float(v) for v in signal_and_noise(halves, 8))
        keep = 0.0 if not noises else 1 - 1 / horizon
        noises.append(keep * (noises[-1] if noises else 0) + (1 - keep) * noise)
        signals.append(keep * (signals[-1] if signals else 0) + (1 - keep) * signal)
        expected = noises[-1] / signals[-1] if signals[-1] > 0 else math.nan
        assert scale.update(batch).item() == pytest.approx(expected, nan_ok=True)


# ---------------------------------------------------------------- updates and weights


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "muon", "proximal"])
def test_updates_equal_the_weights_after_less_those_before(optimizer: str) -> None:
    model = a_model()
    made: Any = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9, weight_decay=0.1),
        "sam": lambda: sam(model, base=lambda m: torch.optim.Adam(m.parameters(), lr=0.01), rho=0.5),
        "muon": lambda: muon(model, lr=0.01, momentum=0.9, weight_decay=0.0, adamw_lr=0.01),
        "proximal": lambda: torch.optim.SGD(model.parameters(), lr=0.3),
    }[optimizer]()
    penalty = ProximalL1(0.1) if optimizer == "proximal" else Penalty()
    for group in made.param_groups:
        group["initial_lr"] = group["lr"]
    diagnose = diagnosing(model, made, updates=2)
    for number in range(3):
        before = {name: weights(p) for name, p in stages(model.network).items()}
        seen = step(model, made, a_batch(number), diagnose=diagnose, penalty=penalty)
        told = {name for name in seen if name.startswith("watch/update/")}
        if number == 1:
            assert not told
            continue
        assert told == {f"watch/update/{kind}/{name}" for name in before for kind in ("norm", "ratio")}
        for name, parameters in stages(model.network).items():
            moved = np.linalg.norm(weights(parameters) - before[name])
            assert seen[f"watch/update/norm/{name}"].item() == pytest.approx(moved, rel=1e-3)
            assert seen[f"watch/update/ratio/{name}"].item() == pytest.approx(
                moved / np.linalg.norm(before[name]), rel=1e-3
            )


def test_norms_of_the_weights_equal_those_of_numpy() -> None:
    model = a_model()
    parts = stages(model.network)
    found = weight_norms(parts) | spectral_norms(parts)
    for name, parameters in parts.items():
        w = weights(parameters)
        assert found[f"watch/weight/norm/{name}"].item() == pytest.approx(np.linalg.norm(w), rel=1e-5)
        assert found[f"watch/weight/norm_l1/{name}"].item() == pytest.approx(np.abs(w).sum(), rel=1e-5)
        matrices = [p.detach().double().numpy().reshape(len(p), -1) for p in parameters if p.ndim > 1]
        largest = max(np.linalg.svd(matrix, compute_uv=False)[0] for matrix in matrices)
        assert found[f"watch/weight/spectral/{name}"].item() == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("shape", [(64, 448), (30, 30), (200, 20), (1, 9), (9, 1)])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e20])
def test_the_spectral_norm_of_any_matrix(shape: tuple[int, int], scale: float) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = np.linalg.svd(matrix.numpy(), compute_uv=False)[0]
    assert spectral_norm((matrix * scale).float()).item() / scale == pytest.approx(expected, rel=1e-3)
    assert spectral_norm(torch.zeros(shape)).item() == 0


def test_the_spectral_norm_of_equal_singular_values() -> None:
    q, _ = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(0)))
    assert spectral_norm(3 * q).item() == pytest.approx(3, rel=1e-4)


# ---------------------------------------------------------------- predictions

OBJECTIVES = {
    "focal": focal,
    "asymmetric": asymmetric,
    "weighted": partial(cross_entropy, class_weight="balanced"),
    "smoothed": partial(cross_entropy, class_weight="balanced", label_smoothing=0.2),
}


@pytest.mark.parametrize(
    ("name", "single_label"), [("focal", False), ("asymmetric", False), ("weighted", True), ("smoothed", True)]
)
def test_beside_another_loss_stands_the_cross_entropy_of_torch(name: str, single_label: bool) -> None:
    model, batch = a_model(), a_batch()
    if single_label:
        batch = replace(batch, y=nn.functional.one_hot(torch.arange(16) % 3, 3).float())
    task = Classification("waves", single_label, False, 0.0, False, 1.0, OBJECTIVES[name]).fit(batch.y)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    diagnose = StepDiagnostics(model, task, optimizer, intervals(predictions=1), autocast=contextlib.nullcontext)
    logits = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    found = diagnose.before_update(batch, logits)
    if single_label:
        smoothing = 0.2 if name == "smoothed" else 0.0
        expected = nn.functional.cross_entropy(logits, batch.y, label_smoothing=smoothing)
    else:
        expected = nn.functional.binary_cross_entropy_with_logits(logits, batch.y)
    assert found["train/cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-5)


# ---------------------------------------------------------------- second moments


@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "Adagrad", "SGD"])
def test_the_spread_of_second_moments(kind: str) -> None:
    model = a_model()
    optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
    diagnose = diagnosing(model, optimizer, second_moments=1)
    for number in range(3):
        seen = step(model, optimizer, a_batch(number), diagnose=diagnose)
    if kind == "SGD":
        assert "watch/optim/second_moment_spread" not in seen and second_moment_spread(optimizer) == {}
        return
    key = {"Adam": "exp_avg_sq", "RMSprop": "square_avg", "Adagrad": "sum"}[kind]
    every = np.concatenate([optimizer.state[p][key].double().numpy().ravel() for p in model.parameters()])
    low, high = np.quantile(every, [0.05, 0.95], method="inverted_cdf")
    assert seen["watch/optim/second_moment_spread"].item() == pytest.approx(math.log10(high / low), abs=0.02)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_measuring_changes_no_training(micro_batch: int | None) -> None:
    found = []
    for every in (None, 1):
        model = a_model()
        optimizer = sam(model, base=lambda m: torch.optim.Adam(m.parameters(), lr=0.01))
        diagnose = diagnosing(model, optimizer, 4 if micro_batch else 2, **dict.fromkeys(ALL, every))
        with diagnose.attach_hooks():
            for number in range(3):
                seen = step(
                    model, optimizer, a_batch(number), 0.5, diagnose=diagnose, micro_batch=MicroBatch(micro_batch)
                )
        found.append((seen, model.state_dict()))
    for a, b in zip(found[0][1].values(), found[1][1].values(), strict=True):
        assert torch.equal(a, b)
    assert set(found[0][0]) == {"train/loss", "watch/grad/norm"}
    assert all(value.isfinite() or name == "watch/grad/noise_scale" for name, value in found[1][0].items())


def test_a_resumed_run_measures_the_same() -> None:
    def run(first: int, last: int, state: Any = None, diagnostics: Any = None) -> Any:
        model = a_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        diagnose = diagnosing(model, optimizer, **dict.fromkeys(ALL, 2))
        if state:
            model.load_state_dict(state[0])
            optimizer.load_state_dict(state[1])
            diagnose.load_state_dict(diagnostics)
        with diagnose.attach_hooks():
            seen = [step(model, optimizer, a_batch(k), 0.5, diagnose=diagnose) for k in range(first, last)]
        return seen, (model.state_dict(), optimizer.state_dict()), diagnose.state_dict()

    whole, _, _ = run(0, 6)
    for cut in (3, 4):
        seen, state, diagnostics = run(0, cut)
        again, _, _ = run(cut, 6, state, diagnostics)
        for a, b in zip(whole, seen + again, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
