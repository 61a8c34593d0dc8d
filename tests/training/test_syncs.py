"""No part of a training step waits for the device: on a GPU it would keep the host from preparing the next step.

Without a GPU, the operators of a step are watched: those that would wait for a GPU are refused. Options are found in
the folders of conf/, so that a new part is covered by being there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from einthoven.contracts import Batch
from einthoven.data.store.batches import training_batches
from einthoven.errors import UserError
from einthoven.runs.network.pretraining import pair_batches
from einthoven.runs.network_run import NetworkRun
from einthoven.training.guard import Guard
from einthoven.training.step import train_step
from two_steps import Bench, a_model, combined, composed, options

WAITING = {
    "_local_scalar_dense",  # float(x), x.item(), x.tolist(), if x
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "lift_fresh",  # torch.tensor([...]), which copies from pageable memory; a single number is an argument of a kernel
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
HOST_STATE = ("step", "mu_product")  # torch keeps these numbers of an optimizer on the host


class NoWaiting(TorchDispatchMode):
    """Refuses operators that would wait for a GPU."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        states = optimizer.state.values()
        self._on_host = [state[name] for state in states for name in HOST_STATE if name in state]

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = function.overloadpacket.__name__
        is_on_host = bool(args) and any(_shares_memory(args[0], tensor) for tensor in self._on_host)
        is_number = name == "lift_fresh" and args[0].ndim == 0
        if name in WAITING and not (is_on_host or is_number):
            raise AssertionError(f"{name} waits for the device")
        if name in ("index", "index_put", "index_put_") and any(_is_mask(index) for index in args[1]):
            raise AssertionError(f"{name} with a mask waits for the device")
        if name.startswith(("linalg_", "_linalg_")) and "norm" not in name:
            raise AssertionError(f"{name} waits for the device")
        result = function(*args, **(kwargs or {}))
        # A seed that is drawn by torch's generator is on the host.
        if name == "randint" and result.ndim == 0:
            self._on_host.append(result)
        return result


def _shares_memory(value: Any, tensor: Tensor) -> bool:
    return isinstance(value, Tensor) and value.data_ptr() == tensor.data_ptr()


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("syncs"), patch)


def batches(run: NetworkRun) -> Iterator[Batch]:
    options: dict[str, Any] = {"size": 8, "window": run.window, "seed": 0, "epoch": 0}
    records = training_batches(run.data.splits["train"], **options)
    pair = run.pair("train")
    return records if pair is None else pair_batches(records, pair, 0, 0)


def take_steps(run: NetworkRun, watch: Any) -> None:
    """Take two steps as on a GPU. The second one is watched: the first one fills caches and makes states."""
    guard = Guard(run.model, waits=False)
    generator = torch.Generator(run.device)
    first, second, *_ = batches(run)

    def step(batch: Batch) -> None:
        metrics = train_step(
            run.model,
            run.penalty.wrap(run.task),
            batch,
            run.optimizer,
            augment=run.augment,
            generator=generator.manual_seed(1),
            autocast=run.autocast,
            clip_norm=1.0,
            penalty=run.penalty,
            diagnose=run.diagnose,
            guard=guard,
        )
        losses.append(metrics["train/loss"])

    losses: list[Tensor] = []
    with run.diagnose.attach_hooks():
        step(first)
        with watch(run.optimizer):
            step(second)
    assert all(math.isfinite(float(loss)) for loss in losses)


WHOLE = ("trainer.window=null", "trainer.stride=null")


def takes_steps_without_waiting(bench: Bench, config: DictConfig) -> None:
    take_steps(bench.assembled(config), NoWaiting)


def side_by_side(*parts: Sequence[str]) -> list[tuple[str, ...]]:
    """Combinations such that each part is in one of them. Shorter lists are repeated."""
    most = max(map(len, parts))
    return [tuple(names[k % len(names)] for names in parts) for k in range(most)]


AUGMENTATIONS = sorted(set(options("augment")) - {"powerline"})
PENALTIES = ("l1", "l1_proximal", "l2")
LOSSES = ("asymmetric", "cross_entropy", "focal")
NETWORKS = ("bilstm", "s4d", "vit1d", "xresnet1d18")


@pytest.mark.parametrize(("augment", "optimizer"), side_by_side(AUGMENTATIONS, options("optimizer")))
def test_augmentations_and_optimizers_do_not_wait(bench: Bench, augment: str, optimizer: str) -> None:
    # A network that takes signals of any length.
    model = ("model=fcn_wang", "model.channels=[4,4,4]")
    augmentation = (f"augment={augment}", "augment.allow_changes=true")
    config = combined(model=model, augment=augmentation, trainer=WHOLE, optimizer=(f"optimizer={optimizer}",))
    takes_steps_without_waiting(bench, config)


@pytest.mark.parametrize(("model", "loss", "penalty"), side_by_side(NETWORKS, LOSSES, PENALTIES))
def test_networks_losses_and_penalties_do_not_wait(bench: Bench, model: str, loss: str, penalty: str) -> None:
    config = combined(model=a_model(model), loss=(f"loss={loss}",), penalty=(f"penalty={penalty}",))
    takes_steps_without_waiting(bench, config)


@pytest.mark.parametrize("penalty", ["kl_to_base", "l2_to_base"])
def test_a_penalty_to_a_base_does_not_wait(bench: Bench, penalty: str) -> None:
    takes_steps_without_waiting(bench, composed("init_from=embedded", f"penalty={penalty}"))


OF_OTHER_DATA = {"cinc2021", "columns", "distill"}
OF_TOKENS = {"cpc", "generator", "masked"}


@pytest.mark.parametrize("task", sorted(set(options("task")) - OF_OTHER_DATA))
def test_a_task_does_not_wait(bench: Bench, task: str) -> None:
    parts = dict.fromkeys(("task", "loss"), (f"task={task}",))
    if task == "delineation":
        delineation = (f"task={task}", *WHOLE)
        parts = dict.fromkeys(("task", "loss", "pca", "trainer"), delineation) | {"model": a_model("unet1d")}
    if task in OF_TOKENS:
        parts |= {"model": a_model("conv_attention"), "trainer": WHOLE}
    takes_steps_without_waiting(bench, combined(**parts))


MEASURES = ("gradients", "gradients_l1", "clipping", "cosine", "noise_scale", "updates")
MEASURES += ("weights", "spectral", "second_moments", "predictions", "activations", "dead")
EACH_STEP = tuple(f"diagnostics.{name}=1" for name in MEASURES)


@pytest.mark.parametrize("single_label", ["false", "true"])
def test_the_measurements_of_a_step_do_not_wait(bench: Bench, single_label: str) -> None:
    task = ("task=superdiagnostic", f"task.single_label={single_label}")
    model = a_model("conv_attention")
    takes_steps_without_waiting(bench, combined(model=model, task=task, diagnostics=EACH_STEP))


class _Waits:
    """A part that waits."""

    changes: frozenset[str] = frozenset()

    def __init__(self, how: str) -> None:
        self._how = how

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scale = torch.rand((len(x), 1, 1), generator=generator, device=x.device)
        if self._how == "number":
            return x * float(scale.mean()), y
        if self._how == "condition":
            return (x if scale.mean() > 2 else -x), y
        if self._how == "mask":
            x = x.clone()
            x[scale[:, 0, 0] > 0.5] *= 2.0
            return x, y
        return x * torch.tensor([1.0] * x.shape[1])[:, None], y


@pytest.mark.parametrize("how", ["number", "condition", "mask", "constant"])
def test_a_part_that_waits_is_found(bench: Bench, how: str) -> None:
    run = bench.assembled(composed())
    run.augment = _Waits(how)
    with pytest.raises(AssertionError, match="waits for the device"):
        take_steps(run, NoWaiting)


# ---------------------------------------------------------------- on a GPU


class _SyncsAreErrors:
    """torch refuses to wait for the GPU inside this block."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None: ...

    def __enter__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this test watches steps on a GPU, and none is here"
)


@needs_gpu
@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_a_step_on_a_gpu_does_not_wait(optimizer: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, monkeypatch)
    config = composed(f"optimizer={optimizer}", "augment=default", "trainer.device=cuda", *a_model("conv_attention"))
    try:
        run = bench.assembled(config)
    except UserError as error:
        pytest.skip(str(error))
    take_steps(run, _SyncsAreErrors)
