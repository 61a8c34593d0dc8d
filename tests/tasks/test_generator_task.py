"""The pretraining on the exact truth of the generator: the truth, its loss and metrics, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score, log_loss, r2_score, roc_auc_score
from torch import Tensor, nn

from einthoven import cli
from einthoven.contracts import Batch
from einthoven.data.sources.embedded import Synthetic
from einthoven.data.sources.ptbxl import PTBXL
from einthoven.data.sources.truth import refuse_without_truth, truth_labels
from einthoven.data.synthetic import generate
from einthoven.data.synthetic.build import draw_build, normal_heart
from einthoven.data.synthetic.compose import MARGIN, compose
from einthoven.data.synthetic.conditions import Patient
from einthoven.data.synthetic.fitted import lead_factors
from einthoven.data.synthetic.heart import Array
from einthoven.data.synthetic.leadfield import ELECTRODE_POSITIONS
from einthoven.data.synthetic.render import draw_complexes, project, project_dipole
from einthoven.errors import UserError
from einthoven.functional.truth import CONDITION_ROW, DIPOLE_ROWS, WAVE_ROWS
from einthoven.functional.vectorcardiogram import DOWER
from einthoven.losses.classification import cross_entropy
from einthoven.losses.overlap import dice_cross_entropy
from einthoven.report.dipole import dipole_figure
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.results import conclude
from einthoven.runs.results.pretraining_figures import reconstruction_figures
from einthoven.tasks.generator import Generator
from einthoven.training import checkpoint
from two_steps import Bench, a_model, composed, two_steps

SMALL = ("task=generator", *a_model("conv_attention"), "trainer.window=null", "trainer.stride=null")
CONDITIONS = ("A", "B", "C")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        yield Bench(tmp_path_factory.mktemp("generator"), patch)


def task(**options: Any) -> Generator:
    weights = {"condition_weight": 1.0, "mask_weight": 1.0, "dipole_weight": 1.0}
    return Generator(**{"labels": "all", "hidden": 8, "conditions": 3, "scale": 0.5, **weights, **options})


# ---------------------------------------------------------------------- the heart vector


def test_sources_at_the_centre_give_the_leads_of_the_heart_vector() -> None:
    """At the centre of the heart the lead field is Dower's matrix, times the factors of the leads."""
    rng = np.random.default_rng(0)
    heart = normal_heart(rng, draw_build(rng, 50, True))
    centre = np.zeros(3)
    heart.place = np.zeros_like(heart.place)
    for sources in (heart.atria, heart.extra, heart.recovery):
        sources.place = [centre for _ in sources.place]
    drawn = []
    for shape, rows in ((project(heart, ELECTRODE_POSITIONS, 0.1), 8), (project_dipole(heart, 0.1), 3)):
        out = np.zeros((rows, 1000), dtype=np.float32)
        onset, rr, breath = np.array([0.5, 1.4]), np.array([0.9, 0.9]), np.array([0.3, -0.8])
        draw_complexes(out, shape, onset, rr, np.array([True, True]), breath, 0.0, 500.0)
        drawn.append(out)
    leads, vector = drawn
    np.testing.assert_allclose(lead_factors()[:, None] * (DOWER @ vector), leads, atol=2e-5)
    assert np.abs(vector).max() > 0.3


def test_heart_vectors_of_records_explain_most_of_their_leads_at_the_same_times() -> None:
    made = generate(12, seed=5, rates=(100, 500))
    vector = made.dipoles[500] * 1e-3
    assert vector.shape == (12, 3, 5000)
    predicted = np.einsum("lx,nxt->nlt", lead_factors()[:, None] * DOWER, vector)
    assert r2_score(made.clean.ravel(), predicted.ravel()) > 0.8
    np.testing.assert_allclose(made.dipoles[100], made.dipoles[500][:, :, ::5], atol=2)


@pytest.mark.parametrize("rhythm", ["AFIB", "AFLT"])
def test_the_heart_vector_moves_with_the_atria_between_the_beats_and_with_breathing(rhythm: str) -> None:
    rng = np.random.default_rng(0)
    patient = Patient(1, 60, True, {"NORM": 0.5}, likelihood={"NORM": 100.0})
    record = compose(rng, patient, draw_build(rng, 60, True), rhythm)
    is_between = record.mask(500) == 0
    lead_ii = record.leads[1, MARGIN:-MARGIN]
    predicted = lead_factors()[1] * (DOWER[1] @ record.dipole(500))
    assert r2_score(lead_ii[is_between], predicted[is_between]) > 0.95
    held_breath = replace(record, breathing=np.zeros_like(record.breathing))
    assert np.abs(record.dipole(100) - held_breath.dipole(100)).max() > 1e-3


def test_the_truth_follows_a_cut_and_holds_the_statements(tmp_path: Path) -> None:
    source = Synthetic(records=6, seed=3, noise=1.0, fs=100, cache=tmp_path, seconds=4.0)
    labels = truth_labels(source, source.open(), "all")
    made = generate(6, seed=3)
    bits = made.masks[100][:, :400]
    for k, bit in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(labels.matrix[:, k], (bits & bit) > 0)
    np.testing.assert_array_equal(labels.matrix[:, DIPOLE_ROWS], made.dipoles[100][:, :, :400])
    for row, recording in zip(labels.matrix[:, CONDITION_ROW], made.recordings, strict=True):
        has = {name for name, value in zip(labels.classes, row, strict=False) if value == 1}
        assert has == set(recording.statements)
        assert (row[len(labels.classes) :] == -1).all()
    (source.root / "dipoles100.npy").unlink()
    with pytest.raises(UserError, match=r"dipoles100.npy: cannot be read.*generated again"):
        truth_labels(source, source.open(), "all")


def test_data_without_the_truth_are_refused_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="task=generator: PTBXL does not know the waves and the heart vector"):
        refuse_without_truth(PTBXL(tmp_path, 100, tmp_path))


def test_records_that_are_shorter_than_their_conditions_are_refused(tmp_path: Path) -> None:
    source = Synthetic(records=20, seed=3, noise=1.0, fs=100, cache=tmp_path, seconds=0.05)
    with pytest.raises(UserError, match=r"data.seconds: a record of 5 samples is too short for task=generator"):
        truth_labels(source, source.open(), "all")


# ---------------------------------------------------------------------- loss and metrics


class Reader(nn.Module):
    """A model that reads logits and traces from the signal: leads 0 to 5 are the traces, lead 6 the logits."""

    samples = 50

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 6, :3], x[:, :6]


def truth(n: int, samples: int) -> Tensor:
    """Return a random truth: masks, vectors in µV, and conditions of which each holds for some records."""
    generator = torch.Generator().manual_seed(0)
    y = torch.full((n, 7, samples), -1.0)
    y[:, WAVE_ROWS] = (torch.rand(n, 3, samples, generator=generator) < 0.3).float()
    y[:, DIPOLE_ROWS] = 500 * torch.randn(n, 3, samples, generator=generator)
    y[:, CONDITION_ROW, :3] = (torch.arange(n)[:, None] % torch.tensor([2, 3, 4]) == 0).float()
    return y


def a_batch(n: int = 12, samples: int = 50) -> Batch:
    y = truth(n, samples)
    x = torch.randn(n, 7, samples, generator=torch.Generator().manual_seed(1))
    x[:, DIPOLE_ROWS] = y[:, DIPOLE_ROWS] * 2e-3 + 0.5 * x[:, DIPOLE_ROWS]
    x[:, WAVE_ROWS] += 2 * y[:, WAVE_ROWS]
    return Batch(x, y, torch.arange(n), torch.ones(n, dtype=torch.bool))


def test_the_loss_is_the_weighted_sum_of_its_three_parts() -> None:
    batch = a_batch()
    conditions = batch.y[:, CONDITION_ROW, :3].numpy()
    probabilities = batch.x[:, 6, :3].sigmoid().double().numpy()
    entropy = log_loss(conditions.ravel(), probabilities.ravel())
    masks = float(dice_cross_entropy(batch.x[:, WAVE_ROWS], batch.y[:, WAVE_ROWS]).mean())
    error = float((batch.x[:, DIPOLE_ROWS] - batch.y[:, DIPOLE_ROWS] * 1e-3 / 0.5).square().mean())
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.0, 3.0, 5.0)):
        names = ("condition_weight", "mask_weight", "dipole_weight")
        loss, _ = task(**dict(zip(names, weights, strict=True))).loss(Reader(), batch)
        assert float(loss) == pytest.approx(np.dot(weights, (entropy, masks, error)), rel=1e-5)


def test_the_random_window_is_cut_from_signal_and_truth_alike() -> None:
    batch = a_batch(samples=400)
    perfect = batch.x.clone()
    perfect[:, DIPOLE_ROWS] = batch.y[:, DIPOLE_ROWS] * 2e-3
    perfect[:, WAVE_ROWS] = 60 * batch.y[:, WAVE_ROWS] - 30
    records = Batch(perfect, batch.y, batch.index, batch.valid)
    for seed in range(3):
        torch.manual_seed(seed)
        loss, _ = task(condition_weight=0.0).loss(Reader(), records)
        assert float(loss) < 1e-6


def test_the_metrics_are_those_of_other_programs() -> None:
    batch = a_batch(samples=200)
    scores = task().scores(Reader(), batch).double().numpy()
    values = task().metrics(np.zeros((12, 0)), scores, CONDITIONS)
    found = batch.x.numpy()
    y = batch.y.numpy()
    for k, wave in enumerate(("P", "QRS", "T")):
        assert values[f"dice/{wave}"] == pytest.approx(f1_score(y[:, k].ravel(), found[:, k].ravel() > 0))
    error = np.square(found[:, DIPOLE_ROWS] - y[:, DIPOLE_ROWS] * 2e-3).sum()
    assert values["r2"] == pytest.approx(1 - error / np.square(y[:, DIPOLE_ROWS] * 2e-3).sum(), rel=1e-5)
    # The probability of a condition is the mean over the four windows.
    windows = torch.stack([batch.x[:, 6, start : start + 3].sigmoid() for start in (0, 50, 100, 150)])
    auroc = roc_auc_score(y[:, CONDITION_ROW, :3], windows.mean(0).numpy(), average="macro")
    assert values["conditions_auroc"] == pytest.approx(auroc)
    intervals = task().intervals(np.zeros((12, 0)), scores, np.arange(12), 0)
    assert intervals.keys() == values.keys()
    assert all(intervals[name].low <= value <= intervals[name].high for name, value in values.items())
    assert len(task().table(np.zeros((12, 0)), scores, CONDITIONS)["r2"]) == 12
    assert task().describe(np.zeros(0), scores[0], CONDITIONS)[0] == "A B C"


def test_heart_vectors_are_in_millivolt() -> None:
    batch = a_batch(samples=80)
    expected, predicted = task(scale=0.25).trace_dipoles(Reader(), batch)
    torch.testing.assert_close(expected, 1e-3 * batch.y[:, DIPOLE_ROWS, :50])
    torch.testing.assert_close(predicted, 0.25 * batch.x[:, DIPOLE_ROWS, :50])


def test_the_scale_and_the_number_of_conditions_are_those_of_the_training_records() -> None:
    y = truth(9, 60)
    fitted = task(conditions=0, scale=1.0).fit(y)
    assert fitted.conditions == 3
    assert fitted.scale == pytest.approx(float(y[:, DIPOLE_ROWS].numpy().std()) * 1e-3, rel=0.01)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"mask_weight": -1.0}, "task.mask_weight=-1.0: expected a number of 0 or more"),
        ({"hidden": 0}, "task.hidden=0"),
        (dict.fromkeys(("condition_weight", "mask_weight", "dipole_weight"), 0.0), "nothing would be learned"),
        ({"objective": cross_entropy}, "loss"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        task(**options)


# ---------------------------------------------------------------------- runs


def test_a_run_learns_measures_and_draws(bench: Bench) -> None:
    run = bench.assembled(composed(*SMALL))
    metrics = two_steps(run)
    assert {"val/loss", "val/r2", "val/dice", "val/dice/QRS", "val/conditions_auroc"} <= metrics.keys()
    trained = {name for name, p in run.model.network.named_parameters() if p.requires_grad}
    assert trained and not any(name.startswith(("head", "pool")) for name in trained)
    first, second = run.evaluate("val"), run.evaluate("val")
    np.testing.assert_array_equal(first.p, second.p)
    figures = reconstruction_figures(run, "val")
    assert figures.keys() == {"heart_vectors"}
    assert len(figures["heart_vectors"]().axes) == 12


def test_a_classifier_starts_from_its_encoder(
    bench: Bench, train: Callable[..., None], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(conclude, "pictures", lambda *_: {})
    short = ("trainer.epochs=1", "trainer.batch_size=16", f"tracking.uri=sqlite:///{workplace}/mlflow.db")
    data = ("data=synthetic", "data.records=60", f"data.cache={bench.folder}/cache")
    cli.main(["train", *data, "task=generator", *a_model("conv_attention"), *short, "hydra.run.dir=generator"])
    # Other records, with labels of another set.
    train("init_from=generator", "trainer.epochs=1", "trainer.batch_size=16", "task=rhythm", "hydra.run.dir=tuned")
    files = (workplace / name / "checkpoints" / "last.safetensors" for name in ("generator", "tuned"))
    base, tuned = (checkpoint.load(file)[0]["model"] for file in files)
    assert {name for name in base if not name.startswith(("decoder", "network.head"))} <= tuned.keys()
    assert (workplace / "tuned" / "bundle").is_dir()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("trainer.window=2.5",), "trainer.window=2.5: the truth is as long as its record"),
        (("augment=time_shift",), "augment: after time_shift, the masks and heart vectors"),
        (("augment=mixup",), "augment: after mixup, the masks and heart vectors"),
        (("augment=amplitude",), "augment: after amplitude_scale, the masks and heart vectors"),
        (("augment=vcg_rotation",), "augment: after vcg_rotation, the masks and heart vectors"),
        (("trainer.sampler=balanced",), "trainer.sampler=balanced"),
        (("loss=cross_entropy",), "loss"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_options_that_do_not_fit_the_truth_are_refused_before_data_are_read(
    options: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("einthoven.runs.data.data_loading.load_data", lambda *_: pytest.fail("data were read"))
    with pytest.raises(UserError) as refusal:
        NetworkRun(composed(*SMALL, *options), tmp_path)
    assert expected in str(refusal.value) and "\n" not in str(refusal.value)


def test_vectors_of_other_shapes_are_not_drawn() -> None:
    vectors: NDArray[np.float64] | Array = np.zeros((2, 3, 10))
    with pytest.raises(UserError, match="expected two arrays"):
        dipole_figure(vectors, vectors[:1], ["a", "b"])
