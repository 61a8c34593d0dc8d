"""Runs whose last layer starts at the log-odds of the training labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

import composing
from einthoven.errors import UserError
from einthoven.models.frontend import Classifier, Frontend
from einthoven.predict.network import last_layer
from einthoven.runs.config.settings import check_settings
from einthoven.runs.network.build_model import set_output_biases
from einthoven.runs.network_run import NetworkRun
from einthoven.runs.start import assemble_run
from einthoven.runs.unrecorded import Unrecorded

MLP = ("model=mlp", "model.width=8", "model.depth=1")
TRACKING = ("tracking.run_name=x", "tracking.experiment=x")
SHORT = ("diagnostics=none", "augment=none", "trainer.batch_size=8", *TRACKING)
BIAS = ("task.prior_bias=true",)
STATEMENTS = ("task=superdiagnostic", "task.targets=all")


def assembled(corpus: Path, folder: Path, *overrides: str, model: tuple[str, ...] = MLP) -> NetworkRun:
    data = ("data=ptbxl", f"data.root={corpus}", f"data.cache={corpus.parent}/cache", "init_from=null")
    run = assemble_run(composing.composed("train", *data, *SHORT, *model, *overrides), folder)
    assert isinstance(run, NetworkRun)
    return run


def biases(run: NetworkRun) -> torch.Tensor:
    layer = last_layer(run.model, len(run.data.output_names))
    assert layer is not None
    return layer.bias.detach()


def positives(run: NetworkRun) -> tuple[np.ndarray, int]:
    """The number of positive training records of each output, and the number of training records."""
    rows = run.data.rows["train"]
    matrix = run.data.labels.matrix if run.data.targets is None else run.data.targets.matrix
    return matrix[rows].sum(axis=0), len(rows)


@pytest.mark.parametrize("options", [BIAS, STATEMENTS], ids=["classes", "targets"])
def test_the_biases_are_the_log_odds_of_the_training_labels(
    options: tuple[str, ...], corpus: Path, tmp_path: Path
) -> None:
    # Of seven training records, none has some of the statements.
    run = assembled(corpus, tmp_path, *options, "data.folds.train=[2,3]")
    count, total = positives(run)
    expected = np.log((count + 0.5) / (total - count + 0.5))
    np.testing.assert_allclose(biases(run), expected, atol=1e-5)
    if options == STATEMENTS:
        assert 0 in count

    # Without its inputs, the network answers with these shares, and with the noisy-or of those of the statements.
    layer = last_layer(run.model, len(count))
    assert layer is not None
    torch.nn.init.zeros_(layer.weight)
    p = run.predict("train").p
    shares = (count + 0.5) / (total + 1)
    if run.data.targets is not None:
        columns = [[run.data.targets.names.index(name) for name in names] for names in run.data.targets.members]
        shares = np.array([1 - np.prod(1 - shares[members]) for members in columns])
    np.testing.assert_allclose(p, np.broadcast_to(shares, p.shape), rtol=1e-5)


def test_the_temperature_and_smoothed_labels_count(corpus: Path, tmp_path: Path) -> None:
    run = assembled(corpus, tmp_path, *BIAS, "task.temperature=2", "loss.label_smoothing=0.2")
    count, total = positives(run)
    smoothed = 0.8 * count + 0.2 * total / 2
    np.testing.assert_allclose(biases(run) / 2, np.log((smoothed + 0.5) / (total - smoothed + 0.5)), atol=1e-5)


def test_a_single_label_starts_at_the_logarithms_of_the_shares(corpus: Path, tmp_path: Path) -> None:
    run = assembled(corpus, tmp_path, *BIAS, "task.single_label=true")
    count, total = positives(run)
    shares = (count + 0.5) / (total + len(count) / 2)
    np.testing.assert_allclose(log_softmax(biases(run), 0), np.log(shares), atol=1e-5)
    assert count.sum() == total and shares.sum() == pytest.approx(1)


def test_a_checkpoint_and_a_base_keep_the_biases_that_they_have(corpus: Path, tmp_path: Path) -> None:
    run = assembled(corpus, tmp_path / "run", *STATEMENTS)
    with torch.no_grad():
        layer = last_layer(run.model, len(run.data.output_names))
        assert layer is not None
        layer.bias.copy_(torch.arange(9.0))
    run.save("last", Unrecorded())
    again = assembled(corpus, tmp_path / "run", *STATEMENTS)
    assert not torch.equal(biases(again), torch.arange(9.0))
    again.load()
    assert torch.equal(biases(again), torch.arange(9.0))


def test_outputs_of_the_base_keep_its_biases_and_new_ones_start_at_their_share(corpus: Path, tmp_path: Path) -> None:
    run = assembled(corpus, tmp_path, "task=all", "init_from=synthetic", model=())
    fresh = assembled(corpus, tmp_path, "task=all", model=())
    base = run.base
    assert base is not None
    names = run.data.output_names
    shared = [name in base.classes for name in names]
    assert any(shared) and not all(shared)
    of_base = dict(zip(base.classes, base.state["network.head.2.bias"].tolist(), strict=True))
    for name, started, new, is_shared in zip(names, biases(run), biases(fresh), shared, strict=True):
        assert float(started) == pytest.approx(of_base[name] if is_shared else float(new)), name


@pytest.mark.parametrize(
    "options", [(), ("loss.class_weight=balanced", *BIAS), ("task.targets=all", "task.prior_bias=false")]
)
def test_the_biases_start_at_0_otherwise(options: tuple[str, ...], corpus: Path, tmp_path: Path) -> None:
    assert not biases(assembled(corpus, tmp_path, *options)).any()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "trainer.sampler=balanced",
            "trainer.sampler=balanced: draws rare statements more often, and task.targets=all",
        ),
        ("loss.class_weight=balanced", "task.targets=all: .* expected loss.class_weight=none"),
    ],
)
def test_what_makes_statements_too_probable_is_refused(option: str, message: str, corpus: Path) -> None:
    data = ("data=ptbxl", f"data.root={corpus}")
    config = composing.composed("train", *data, *TRACKING, "task.targets=all", option)
    with pytest.raises(UserError, match=message):
        check_settings(config)


@pytest.mark.parametrize("layer", [nn.Linear(3, 5, bias=False), nn.Conv1d(3, 5, 1)], ids=["no bias", "no linear layer"])
def test_a_network_without_such_a_layer_starts_as_it_is(layer: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    set_output_biases(Classifier(Frontend(3, 3), nn.Sequential(layer)), torch.ones(5))
    assert (
        "task.prior_bias has no effect: Sequential does not end in a linear layer with a bias for each of its 5 outputs"
        in capsys.readouterr().out
    )
    for parameter, expected in zip(layer.parameters(), before, strict=True):
        assert torch.equal(parameter, expected)
