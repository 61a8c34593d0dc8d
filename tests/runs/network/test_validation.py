"""What a run measures at the end of an epoch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from einthoven.build import build
from einthoven.diagnostics.curvature import Hessian, sharpness, trace
from einthoven.errors import UserError
from einthoven.evaluation.scores import calibration_error_per_class
from einthoven.models.attention import explicit_attention
from einthoven.report.landscape import interpolation_figure, landscape_figure, path_figure
from einthoven.report.trials import Trial
from einthoven.runs.config.settings import is_feature_model
from einthoven.runs.network.probing import probe_batch, probe_loss
from einthoven.runs.results.conclude import _trained_model
from einthoven.runs.results.landscape import loss_landscape
from two_steps import Bench, Notes, a_model, composed, options, train


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("validation"), patch)


FULL = ("diagnostics=full", "trainer.stride=2.5", "trainer.epochs=3")


def bernoulli_kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)


def test_predictions_are_measured_once_an_epoch(bench: Bench) -> None:
    run, notes = bench.assembled(composed(*FULL)), Notes()
    train(run, notes)
    found, told = run.predict("val"), notes.latest
    gaps = calibration_error_per_class(found.y, found.p)
    for name, gap in zip(run.data.labels.classes, gaps, strict=True):
        assert told[f"val/calibration_gap/{name}"] == pytest.approx(gap)
    assert told["watch/diag/calibration_gap"] == pytest.approx(gaps.mean())
    assert told["watch/diag/confident_wrong"] == pytest.approx((np.abs(found.y - found.p) > 0.9).mean())
    assert found.windows is not None and found.windows.shape[1] == 4
    apart = bernoulli_kl(found.windows, found.windows.mean(1, keepdims=True)).mean()
    assert told["watch/diag/kl_windows"] == pytest.approx(apart)
    assert "watch/diag/kl_drift" in told
    kept = run.validation.arrays()
    assert kept["entropy/epoch"].tolist() == [1, 2, 3]
    assert (kept["entropy/counts"].sum(axis=1) == len(found.p)).all()

    # The end of the run would make the same predictions, unless it chooses other weights.
    known, again = run.validation.last_predictions(), run.predict("val", "fp32")
    assert known is not None and known.windows is not None and again.windows is not None
    np.testing.assert_array_equal(known.p, again.p)
    np.testing.assert_array_equal(known.y, again.y)
    np.testing.assert_array_equal(known.windows, again.windows)
    # In this way, PyTorch does not count the change.
    next(run.model.parameters()).data.view(-1)[0] += 1e-3
    assert run.validation.last_predictions() is None


def test_nothing_is_measured_where_nothing_is_asked_for(bench: Bench) -> None:
    told = bench.train(composed("diagnostics=none"))
    assert not [
        name
        for name in told
        if name.startswith(("watch/diag/", "watch/act/", "watch/update/", "watch/weight/", "val/calibration"))
    ]
    assert {name for name in told if name.startswith(("watch/grad/", "watch/optim/"))} == {
        "watch/grad/norm",
        "watch/optim/lr",
    }


def test_a_single_label_is_measured_too(bench: Bench) -> None:
    told = bench.train(composed("diagnostics=full", "task.single_label=true"))
    assert {"watch/diag/calibration_gap", "watch/diag/kl_labels", "watch/diag/kl_drift"} <= told.keys()


def test_what_was_kept_survives_a_checkpoint(bench: Bench, tmp_path: Path) -> None:
    config = composed(*FULL)
    run = bench.assembled(config)
    run.checkpoints = tmp_path / "checkpoints"
    train(run, Notes())
    again = bench.assembled(config)
    again.checkpoints = tmp_path / "checkpoints"
    again.load()
    before, after = run.validation.arrays(), again.validation.arrays()
    assert before.keys() == after.keys() and all((before[name] == after[name]).all() for name in before)


# ---------------------------------------------------------------- the model itself

ONCE = ("diagnostics.sharpness=1", "diagnostics.hessian_trace=1", "diagnostics.trajectory=1")
SMALL_ATTENTION = ("model=conv_attention", "model.channels=[8,8]", "model.heads=2", "model.window=1.0")


def test_the_model_is_measured_on_the_probe_batch(bench: Bench) -> None:
    run, notes = bench.assembled(composed(*FULL, *ONCE, *SMALL_ATTENTION, "diagnostics.probe_records=5")), Notes()
    train(run, notes)
    told, batch = notes.latest, probe_batch(run)
    assert batch.x.shape[::2] == (5, 100)  # one window of the network
    maps = run.model.network.attention_maps(run.model.frontend(batch.x))["block1"]
    for head in (0, 1):
        entropy = torch.special.entr(maps[:, head]).sum(-1).mean().item()
        assert told[f"watch/act/attention_entropy/block1/{head + 1}"] == pytest.approx(entropy, rel=1e-4)
    assert 1 <= told["watch/act/effective_rank"] <= 16
    double = bench.assembled(run.config)
    double.model.load_state_dict(run.model.state_dict())
    double.model.double()
    exact = batch.__class__(batch.x.double(), batch.y.double(), batch.index, batch.valid)
    with explicit_attention():
        matrix = Hessian(probe_loss(double, exact), double.trainable())
        generator = torch.Generator().manual_seed(run.settings.seed)
        assert told["watch/diag/sharpness"] == pytest.approx(sharpness(matrix, generator), rel=1e-2)
        assert told["watch/diag/hessian_trace"] == pytest.approx(trace(matrix, generator), rel=1e-2)
    assert len(run.validation.snapshots) == 3
    last = np.concatenate([p.detach().numpy().ravel() for p in run.model.parameters()])
    assert (run.validation.snapshots[-1] == last).all()


def test_the_landscape_is_that_of_the_weights_and_of_their_way(bench: Bench) -> None:
    run = bench.assembled(composed("diagnostics.trajectory=1", "trainer.epochs=3", "diagnostics.probe_records=8"))
    train(run, Notes())
    before = [p.detach().clone() for p in run.trainable()]
    found = loss_landscape(run, run.validation.snapshots)
    loss = probe_loss(run, probe_batch(run)).item()
    assert found["line/loss"][20] == pytest.approx(loss) and found["plane/loss"][10, 10] == pytest.approx(loss)
    assert all(torch.equal(a, b) for a, b in zip(before, run.trainable(), strict=True))
    assert found["path/points"].shape == (3, 2) and found["path/explained"].sum() == pytest.approx(1)
    for figure in (landscape_figure(found), path_figure(found)):
        figure.savefig(io.BytesIO(), format="png")
    run.validation.snapshots.pop()
    assert "path/loss" not in loss_landscape(run, run.validation.snapshots)


@pytest.mark.parametrize(
    "model", [name for name in options("model") if name != "unet1d" and not is_feature_model(composed(f"model={name}"))]
)
def test_every_network_is_measured_in_full(bench: Bench, model: str) -> None:
    short = ("diagnostics.probe_records=2", f"trainer.window={0.3 if 'lstm' in model else 1.0}")
    told = bench.train(composed("diagnostics=full", *ONCE, *a_model(model), *short))
    assert np.isfinite([told[f"watch/diag/{name}"] for name in ("sharpness", "hessian_trace")]).all()
    assert told["watch/act/effective_rank"] >= 1


def test_the_line_to_another_run(bench: Bench, tmp_path: Path) -> None:
    first = bench.assembled(composed("seed=1"))
    first.checkpoints = tmp_path / "checkpoints"
    train(first, Notes())
    second = bench.assembled(composed(f"analysis.run={tmp_path}", "analysis=interpolation"))
    found = build(second.config.analysis)(_trained_model(second))
    share, losses = (found[f"interpolation/{name}"].numpy() for name in ("share", "loss"))
    for run, where in ((first, 0), (second, 1)):
        split = run.data.splits["val"]
        with torch.no_grad():
            logits = run.model.eval()(split.take(torch.arange(len(split)), 250))
        expected = nn.functional.binary_cross_entropy_with_logits(logits, split.labels).item()
        assert losses[np.isclose(share, where)] == pytest.approx(expected, rel=1e-4)
    trial = Trial({}, arrays={name: value.numpy() for name, value in found.items()})
    interpolation_figure([trial], title="?").savefig(io.BytesIO(), format="png")
    other = bench.assembled(composed(f"analysis.run={tmp_path}", "analysis=interpolation", "model.width=9"))
    with pytest.raises(UserError, match=r"analysis\.run=.* in that run and .* in this run"):
        build(other.config.analysis)(_trained_model(other))


def test_a_line_to_nowhere_is_refused_before_anything_is_read(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"analysis\.run=nowhere: no checkpoints/last"):
        bench.assembled(composed("analysis=interpolation", "analysis.run=nowhere"))
    with pytest.raises(UserError, match=r"analysis\.run=None"):
        bench.assembled(composed("analysis=interpolation"))


def test_a_batch_that_is_too_small_for_a_noise_scale_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"diagnostics\.noise_scale=5 compares 2 parts"):
        bench.assembled(composed("diagnostics.noise_scale=5", "trainer.batch_size=3"))
