"""A Gaussian mixture as a model of the density of points."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

POINTS_PER_COMPONENT = 250
"""A covariance of 32 dimensions has 528 numbers, so that fewer points do not determine it."""

MOST_COMPONENTS = 100
"""More take longer, and describe other points hardly better."""

FLOOR = 1e-2
"""Added to each variance. Points of a variational posterior have a variance of about one in all."""

STEPS = 30
"""Most steps of expectation and maximization. The likelihood hardly changes in later ones."""


def sample_density(points: NDArray[np.floating], count: int, seed: int) -> NDArray[np.float64]:
    """Fit a Gaussian mixture with full covariances to points ``(n, D)``, and draw new points ``(count, D)`` from it.

    Parameters
    ----------
    points : ndarray, shape (n, D)
        Two or more, and finite.
    count : int
    seed : int
        Of the fit and of the new points.

    References
    ----------
    Ghosh et al., "From variational to deterministic autoencoders", ICLR 2020, section 4: density estimation after the
    training. EM: Dempster, Laird & Rubin, J. R. Stat. Soc. B 39:1, 1977.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    components = int(np.clip(len(points) // POINTS_PER_COMPONENT, 1, MOST_COMPONENTS))
    mixture = GaussianMixture(components, reg_covar=FLOOR, max_iter=STEPS, random_state=seed)
    with warnings.catch_warnings():
        # A fit that stops a little before the best likelihood is as good.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(points)
    drawn = np.asarray(mixture.sample(count)[0], np.float64)
    # scikit-learn sorts new points by component. A picture of the first ones would show one component.
    return np.random.default_rng(seed).permutation(drawn)
