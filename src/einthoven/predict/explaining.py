"""Explanations: how much each sample of each lead contributes to the log-odds of one class.

`Predictor.explain` chooses the record, the class and the window. `explain_window` computes the explanation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from einthoven.evaluation.faithfulness import Faithfulness, faithfulness
from einthoven.evaluation.saliency import Method
from einthoven.functional.delineation import delineate, wave_of_sample
from einthoven.functional.waves import WAVES
from einthoven.predict.bundle import Bundle
from einthoven.predict.log_odds import LogOdds
from einthoven.predict.measuring import WaveFinder

Float = NDArray[np.float64]


@dataclass(frozen=True)
class WaveShare:
    """Share of one kind of wave in an explanation.

    Attributes
    ----------
    relevance : float
        Share of the absolute relevance that lies in these waves.
    chance : float
        Share of the time that these waves last: the share of a relevance that is spread evenly.
    """

    relevance: float
    chance: float


@dataclass(frozen=True)
class Explanation:
    """The explanation of the probability of one class of one record.

    Attributes
    ----------
    source : str
        Name of the record.
    label : str
        The class.
    probability : float
        Calibrated probability of the class in this window of the record.
    start_s : float
        Start of the window in the record, in seconds.
    signal : ndarray of float64, shape (L, T)
        The signal that the model read, in mV.
    relevance : ndarray of float64, shape (L, T)
        Contribution of each sample: positive for the class, negative against it. The unit is that of the log-odds
        before calibration. Grad-CAM and attention roll-out have no unit.
    leads : tuple of L str
    fs : float
        Sampling frequency in Hz.
    faithfulness : Faithfulness or None
        Measures of how far the relevance can be trusted, for this record. None if they were not measured. The mean over
        the bundles if there are several.
    cautions : tuple of str
        As in `Prediction.cautions`.
    by_wave : dict of str to WaveShare
        From `wave_shares`; empty if the waves are unknown.
    """

    source: str
    label: str
    probability: float
    start_s: float
    signal: Float
    relevance: Float
    leads: tuple[str, ...]
    fs: float
    faithfulness: Faithfulness | None = None
    cautions: tuple[str, ...] = ()
    by_wave: Mapping[str, WaveShare] = field(default_factory=dict)

    @property
    def by_lead(self) -> dict[str, float]:
        """Share of each lead in the absolute relevance. The shares add up to one."""
        size = np.abs(self.relevance).sum(axis=1)
        shares = size / max(size.sum(), np.finfo(float).tiny)
        return dict(zip(self.leads, shares.tolist(), strict=True))


def explain_window(
    bundles: Sequence[Bundle], signal: NDArray[np.float32], class_index: int, method: Method, *, judge: bool
) -> tuple[Float, Faithfulness | None]:
    """Explain one class in one window. With several bundles, return the mean over them.

    Parameters
    ----------
    bundles : sequence of Bundle
    signal : ndarray of float32, shape (L, T)
        The window, in mV.
    class_index : int
    method : Method
        A function of `evaluation.saliency` or `evaluation.occlusion`.
    judge : bool
        Also measure the faithfulness of the relevance, which takes several times as long.

    Returns
    -------
    relevance : ndarray of float64, shape (L, T)
    faithfulness : Faithfulness or None
        None without `judge`.
    """
    relevances: list[Float] = []
    measures: list[list[Float]] = []
    for bundle in bundles:
        log_odds = LogOdds.from_bundle(bundle)
        device = next(bundle.model.parameters()).device
        x = torch.from_numpy(signal)[None].to(device)
        target = torch.tensor([class_index], device=device)
        relevance = method(log_odds, x, target)
        # Device-to-host sync: once per bundle.
        relevances.append(relevance[0].double().cpu().numpy())
        if judge:
            measured = faithfulness(log_odds, method, x, target, relevance, fs=bundle.input_format.fs)
            measures.append(list(vars(measured).values()))
    mean_relevance = np.mean(relevances, axis=0)
    if not judge:
        return mean_relevance, None
    return mean_relevance, Faithfulness(*np.mean(measures, axis=0))


def find_waves(delineator: WaveFinder, leads: Sequence[str], x: NDArray[np.floating], fs: float) -> NDArray[np.int8]:
    """Return the delineated wave of each sample ``(N, T)`` of signals ``(N, L, T)``, as `functional.waves.waves`."""
    return wave_of_sample(delineate(delineator.probabilities(x, fs, leads), fs), fs, x.shape[2])


def wave_shares(
    delineator: WaveFinder,
    signal: NDArray[np.floating],
    fs: float,
    leads: Sequence[str],
    relevance: NDArray[np.floating],
) -> dict[str, WaveShare]:
    """Return the share of P, QRS, ST and T in the absolute relevance, and the share that chance would give.

    Parameters
    ----------
    delineator : WaveFinder
    signal, relevance : ndarray, shape (L, T)
    fs : float
        Sampling frequency in Hz.
    leads : sequence of L str

    Returns
    -------
    dict of str to WaveShare
        The names are those of `WAVES`. Empty if the record has no beat.
    """
    waves = find_waves(delineator, leads, signal[None], fs)[0]
    size = np.abs(relevance).sum(axis=0)
    total = float(size.sum())
    if not waves.any() or total <= 0:
        return {}
    shares = {}
    for number, name in enumerate(WAVES, 1):
        is_inside = waves == number
        shares[name] = WaveShare(float(size[is_inside].sum()) / total, float(is_inside.mean()))
    return shares
