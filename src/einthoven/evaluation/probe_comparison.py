"""The result of a probe: the trained encoder beside random ones, on the same records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.evaluation.bootstrap import bootstrap_interval
from einthoven.evaluation.comparison import Difference, difference_of_means
from einthoven.evaluation.intervals import Interval
from einthoven.evaluation.metrics import auroc_per_class, macro_auroc


@dataclass(frozen=True)
class ProbeResult:
    """The macro AUROC that one kind of probe reaches.

    Attributes
    ----------
    macro_auroc : float
        With the embeddings of the trained encoder.
    interval : Interval
        Of `macro_auroc`. Patients are resampled.
    auroc : tuple of float
        AUROC of each class.
    random : tuple of float
        Macro AUROC with the embeddings of each random encoder.
    random_mean, random_sd : float
        Mean and standard deviation of `random`. The deviation of one encoder is nan.
    difference : Difference
        `macro_auroc` less `random_mean`, on the same resamples of patients.
    inverse_strengths : tuple of float
        Chosen inverse strengths of a linear probe, for the trained encoder and each random one.
    """

    macro_auroc: float
    interval: Interval
    auroc: tuple[float, ...]
    random: tuple[float, ...]
    random_mean: float
    random_sd: float
    difference: Difference
    inverse_strengths: tuple[float, ...] = ()


def compare(
    y: NDArray[Any], scores: NDArray[np.float64], random_scores: Sequence[NDArray[np.float64]], **bootstrap: Any
) -> ProbeResult:
    """Compare the scores of a probe of the trained encoder with those of random encoders.

    Parameters
    ----------
    y : ndarray (n, K)
        Labels. Each class has both.
    scores : ndarray (n, K)
        With the trained encoder.
    random_scores : sequence of ndarray (n, K)
        With each random encoder.
    **bootstrap
        Options of `einthoven.evaluation.comparison.difference_of_means`.
    """
    random = [macro_auroc(y, other) for other in random_scores]
    return ProbeResult(
        macro_auroc=macro_auroc(y, scores),
        interval=bootstrap_interval(y, scores, **bootstrap),
        auroc=tuple(auroc_per_class(y, scores).tolist()),
        random=tuple(random),
        random_mean=float(np.mean(random)),
        random_sd=float(np.std(random, ddof=1)) if len(random) > 1 else float("nan"),
        difference=difference_of_means(y, random_scores, [scores], **bootstrap),
    )
