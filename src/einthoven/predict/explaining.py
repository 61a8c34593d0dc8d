"""Why an answer is as it is: what each sample of each lead contributes to the log-odds of one class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.evaluation.faithfulness import Faithfulness, faithfulness
from einthoven.evaluation.saliency import Method
from einthoven.predict.bundle import Bundle
from einthoven.predict.log_odds import LogOdds
from einthoven.predict.signal import Prepared

if TYPE_CHECKING:
    from einthoven.predict.predictor import Predictor

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """What one class of one record rests on.

    Attributes
    ----------
    source : str
        The record.
    label : str
        The class.
    probability : float
        Calibrated, as predicted for this window of the record.
    start_s : float
        Where the window begins in the record, in seconds.
    signal : ndarray of float64, shape (L, T)
        What the model read, in mV.
    relevance : ndarray of float64, shape (L, T)
        What each sample contributes; for the class where it is positive, against it where negative. In log-odds before
        calibration, or without a unit (Grad-CAM, roll-out).
    leads : tuple of L str
    fs : float
        Hz.
    worth : Faithfulness or None
        How much the picture can be trusted, of one record; None where it was not asked for. Of several bundles, the
        mean over them.
    cautions : tuple of str
        As of a prediction: that the record was in the training data, and what was done to make it fit.
    """

    source: str
    label: str
    probability: float
    start_s: float
    signal: Float
    relevance: Float
    leads: tuple[str, ...]
    fs: float
    worth: Faithfulness | None = None
    cautions: tuple[str, ...] = ()

    @property
    def by_lead(self) -> dict[str, float]:
        """Share of each lead in all that is relevant, for or against; they add up to one."""
        size = np.abs(self.relevance).sum(axis=1)
        return dict(zip(self.leads, (size / max(size.sum(), np.finfo(float).tiny)).tolist(), strict=True))


def explain(
    predictor: Predictor,
    record: Record | Prepared | str | Path,
    label: str | None,
    method: Method,
    *,
    judge: bool = False,
    seed: int = 0,
) -> Explanation:
    """Explain one class of one record; of a long record, the window in which it is most probable.

    Parameters
    ----------
    predictor : Predictor
        Of several bundles, relevance is the mean over them. Dropout is off.
    record : Record, Prepared, str or Path
    label : str or None
        The class; by default the most probable one.
    method : Method
        One of `evaluation.saliency` and `evaluation.occlusion`.
    judge : bool
        Also measure what it is worth (`evaluation.faithfulness`), which takes some times longer.
    seed : int
        Of the random orders and weights that it is compared with.

    Raises
    ------
    UserError
        If the record cannot be read or lacks what the model needs, the class is unknown, or the method does not suit
        the network.
    """
    if label is not None and label not in predictor.classes:
        raise UserError(f"class {label}: unknown; this model knows {', '.join(predictor.classes)}.")
    prepared = record if isinstance(record, Prepared) else predictor.prepare(record)
    answer = predictor.answer([prepared], *predictor.alphas[:1])
    target = int(answer.probabilities[0].argmax()) if label is None else predictor.classes.index(label)
    window = int(answer.windows[0][:, target].argmax())
    millivolt = prepared.signal[window].astype(np.float32) * np.float32(1e-3)
    found = [_of_member(bundle, millivolt, target, method, judge, seed) for bundle in predictor.bundles]
    return Explanation(
        source=prepared.source,
        label=predictor.classes[target],
        probability=float(answer.windows[0][window, target]),
        start_s=float(prepared.start_s[window]),
        signal=millivolt.astype(np.float64),
        relevance=np.mean([relevance for relevance, _ in found], axis=0),
        leads=predictor.reads.leads,
        fs=predictor.reads.fs,
        worth=_mean([worth for _, worth in found if worth is not None]),
        cautions=answer.cautions[0],
    )


def log_odds(bundle: Bundle) -> LogOdds:
    """What is explained of a bundle: the log-odds of its probabilities, before calibration."""
    reads = bundle.reads
    return LogOdds(
        bundle.model,
        reads.window,
        reads.stride,
        reads.aggregate,
        single_label=bundle.single_label,
        temperature=bundle.temperature,
    )


def _of_member(
    bundle: Bundle, millivolt: NDArray[np.float32], target: int, method: Method, judge: bool, seed: int
) -> tuple[Float, Faithfulness | None]:
    model, device = log_odds(bundle), next(bundle.model.parameters()).device
    x, wanted = torch.from_numpy(millivolt)[None].to(device), torch.tensor([target], device=device)
    relevance = method(model, x, wanted)
    worth = faithfulness(model, method, x, wanted, relevance, fs=bundle.reads.fs, seed=seed) if judge else None
    return relevance[0].double().cpu().numpy(), worth


def _mean(worth: Sequence[Faithfulness]) -> Faithfulness | None:
    if not worth:
        return None
    return Faithfulness(*np.mean([list(vars(member).values()) for member in worth], axis=0))
