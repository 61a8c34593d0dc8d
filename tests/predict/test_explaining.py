"""An explanation of a bundle's answer: of the log-odds that it reports, for any number of windows and members."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.evaluation.occlusion import occlusion_by_lead
from einthoven.evaluation.saliency import attention_rollout, grad_cam, input_gradient, integrated_gradients
from einthoven.predict import Bundle, Predictor
from einthoven.predict.forward import predict_windows
from einthoven.predict.log_odds import LogOdds
from einthoven.predict.signal import InputFormat

MakeBundle = Callable[..., Bundle]
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def record(seconds: float = 10.0, seed: int = 0) -> Record:
    signal = np.random.default_rng(seed).normal(0, 0.3, (12, round(seconds * 100)))
    return Record(signal.astype(np.float32), 100.0, LEADS, f"record-{seed}")


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("aggregate", ["mean", "max"])
@pytest.mark.parametrize("window", [1000, 400])
def test_log_odds_are_those_of_what_is_reported(
    make_bundle: MakeBundle, single_label: bool, aggregate: str, window: int
) -> None:
    input_format = InputFormat(LEADS, 100.0, 10.0, False, window, 300, aggregate)
    bundle = make_bundle(input_format=input_format, single_label=single_label, temperature=1.5)
    signal = np.stack([(record(seed=s).signal * 1000).astype(np.int16) for s in range(3)])
    p, _ = predict_windows(bundle, signal)
    with torch.no_grad():
        z = LogOdds.from_bundle(bundle)(torch.from_numpy(signal).float() * 1e-3).double().numpy()
    assert z == pytest.approx(np.log(p / (1 - p)), abs=1e-4)


@pytest.mark.parametrize("method", [input_gradient, integrated_gradients, grad_cam, attention_rollout])
@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_windows_of_windows_land_on_the_samples_of_the_record(
    make_bundle: MakeBundle, method: Callable[..., torch.Tensor], aggregate: str
) -> None:
    """The classifier reads 4 s of 10, and the network 1 s of those."""
    input_format = InputFormat(LEADS, 100.0, 10.0, False, 400, 300, aggregate)
    model = LogOdds.from_bundle(make_bundle(input_format=input_format))
    assert model.windows(1000) == ([0, 300, 600], 400)
    starts, length = model.pieces(400)
    assert starts[:2] == [0, 48] and length == 100 and starts[-1] == 300
    x = torch.from_numpy(record().signal)[None]
    target = torch.tensor([1])
    found = method(model, x, target)
    assert found.shape == x.shape and found.abs().max() > 0
    if method is integrated_gradients:
        change = (model(x) - model(torch.zeros_like(x)))[0, 1]
        assert found.sum().item() == pytest.approx(change.item(), abs=0.1 * abs(change.item()) + 0.02)
    if method is grad_cam and aggregate == "max":  # only the window that is reported speaks
        seen = [model.classifier(x[..., s : s + 400])[0, 1].item() for s in (0, 300, 600)]
        outside = torch.ones(1000, dtype=torch.bool)
        first = 300 * int(np.argmax(seen))
        outside[first : first + 400] = False
        assert not found[0, 0, outside].any()


def test_an_explanation_is_of_the_answer(make_bundle: MakeBundle) -> None:
    predictor = Predictor([make_bundle()])
    answer = predictor.predict([record()])
    found = predictor.explain(record())
    assert found.label == predictor.classes[answer.probabilities[0].argmax()]
    assert found.probability == pytest.approx(answer.probabilities[0].max())
    assert found.signal.shape == found.relevance.shape == (12, 1000) and found.faithfulness is None
    assert sum(found.by_lead.values()) == pytest.approx(1.0) and tuple(found.by_lead) == LEADS
    judged = predictor.explain(record(), "MI", occlusion_by_lead, judge=True)
    assert judged.label == "MI" and judged.faithfulness is not None
    assert all(np.isfinite(value).all() and value.shape == (1,) for value in vars(judged.faithfulness).values())
    with pytest.raises(UserError, match="class AF: unknown; this model knows CD, MI, NORM"):
        predictor.explain(record(), "AF")


def test_of_a_long_record_the_most_probable_window_is_explained(make_bundle: MakeBundle) -> None:
    predictor, long = Predictor([make_bundle()]), record(40.0, seed=3)
    found = predictor.explain(long, "MI", input_gradient)
    windows = predictor.predict([long]).windows[0][:, 1]
    assert found.probability == windows.max() and found.start_s == 10.0 * windows.argmax()
    part = replace(long, signal=long.signal[:, round(100 * found.start_s) :][:, :1000])
    assert found.relevance == pytest.approx(predictor.explain(part, "MI", input_gradient).relevance, abs=1e-6)


def test_members_are_explained_as_their_mean(make_bundle: MakeBundle) -> None:
    members = [make_bundle(seed=s) for s in (1, 2)]
    alone = [Predictor([m]).explain(record(), "MI", input_gradient).relevance for m in members]
    both = Predictor(members).explain(record(), "MI", input_gradient, judge=True)
    assert both.relevance == pytest.approx(np.mean(alone, axis=0))
    assert both.faithfulness is not None and both.faithfulness.deletion.shape == (1,)
