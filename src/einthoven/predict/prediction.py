"""The predictions for some records: probabilities with intervals, sets of statements, uncertainty and cautions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.evaluation.uncertainty import EntropyParts

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Predictions for n records and K classes.

    A recording that is longer than the records of the training is cut into W windows of their length.

    Attributes
    ----------
    sources : tuple of n str
        Names of the records.
    probabilities : ndarray of float64, shape (n, K)
        Calibrated probabilities: the mean or maximum over the windows of a record, and the mean over all members (the
        bundles and dropout masks).
    intervals : ndarray of float64, shape (n, K, 2)
        95 % interval of each probability. It contains the uncertainty of the calibration and the variance between
        members. NaN if a bundle was not calibrated, or if the calibration records of a class were all positive or all
        negative.
    sets : tuple of n tuples of str
        The statements that each record may have. The sets miss at most the share `alpha` of the true statements, on
        average over records like the calibration records. Without `alpha`, a set contains all classes.
    alpha : float or None
        None if there is no such guarantee (`Predictor.alphas`).
    entropy : EntropyParts
        Predictive entropy of each record and its parts (n,), in nats.
    familiar : ndarray of float64, shape (n,)
        Share of the calibration records that are at least as far from the training records as this one: the mean over
        the bundles that contain these distances. A small share means that the record is unlike the training data. NaN
        if no bundle contains them, or with dropout.
    windows : tuple of n ndarrays of float64, shape (W, K)
        Probabilities of each window of a record.
    start_s : tuple of n ndarrays of float64, shape (W,)
        Start of each window, in seconds.
    in_training : tuple of n bool or None
        Whether a model was trained on this signal. None if no bundle lists the signals of its training.
    cautions : tuple of n tuples of str
        Sentences that a reader of the prediction must know.
    refused : tuple of n str or None
        Why a model refuses to answer for a record (`einthoven.predict.refusal`). Do not use the probabilities of such a
        record.
    """

    sources: tuple[str, ...]
    probabilities: Float
    intervals: Float
    sets: tuple[tuple[str, ...], ...]
    alpha: float | None
    entropy: EntropyParts
    familiar: Float
    windows: tuple[Float, ...]
    start_s: tuple[Float, ...]
    in_training: tuple[bool | None, ...]
    cautions: tuple[tuple[str, ...], ...]
    refused: tuple[str | None, ...]

    def raise_refused(self) -> None:
        """Raise an error for the first record that is refused.

        Raises
        ------
        UserError
            Says why.
        """
        for reason in self.refused:
            if reason is not None:
                raise UserError(reason)
