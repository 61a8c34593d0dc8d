"""A frontend with principal components of time: shapes that short windows of an ECG have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional.moments import LeadMoments, window_moments
from einthoven.functional.pca import PCA, Float64


class TimeFrontend(nn.Module):
    """Scale mV, then project windows of each lead on fixed shapes. The strided convolution is fitted, not trained.

    ``y[l k + i, t] = shape_i · (window of lead l at t stride - centre)``. The `k` scores of lead l are the channels
    ``l k … l k + k - 1``. All leads share the shapes. Windows lie inside of the record, so T samples become
    ``(T - width) // stride + 1`` steps. `fit` builds a frontend from data. After the constructor, the frontend needs a
    state dict.

    Parameters
    ----------
    in_channels
        Leads of the signal.
    k
        Number of shapes.
    width, stride
        Length of a window, and distance between two windows, in samples.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    projection: Tensor

    def __init__(self, in_channels: int, k: int, width: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = in_channels * k
        self.stride = stride
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("projection", torch.eye(k, width))
        # `fit` replaces it by the fitted object, which the figures show.
        self.pca = PCA(k)

    @classmethod
    def fit(
        cls,
        moments: LeadMoments,
        records: Iterable[NDArray[Any]],
        *,
        window: float,
        stride: float,
        k: int,
        whiten: bool,
        fs: float,
    ) -> Self:
        """Fit to the training records.

        Parameters
        ----------
        moments
            Moments of the leads in mV, for the scale.
        records
            Arrays ``(n, L, T)`` in mV.
        window, stride
            Length of a window, and distance between two windows, in seconds.
        k
            Number of shapes.
        whiten
            True: divide each score by its own standard deviation. False: divide all scores by one number so that their
            mean variance is 1.
        fs
            Sampling frequency in Hz.

        Raises
        ------
        UserError
            If `k` does not fit the window, the window does not fit the records, or the signals do not vary.
        """
        if not 0 < window * fs < math.inf or not 0 < stride * fs < math.inf:
            raise UserError(f"pca: window={window} s and stride={stride} s at {fs} Hz; expected numbers above 0.")
        width = round(window * fs)
        step = round(stride * fs)
        if width < 1 or not 1 <= step <= width:
            raise UserError(
                f"pca: window={window} s and stride={stride} s are {width} and {step} samples at {fs:g} Hz; expected a "
                "stride of one sample or more, and no longer than the window."
            )
        if not 1 <= k <= width:
            raise UserError(f"pca: k must lie within 1 and {width}, the samples of a window, found {k}")
        if not np.trace(moments.covariance) > 0:
            raise UserError("the training signals do not vary: there is nothing to scale")
        try:
            moments_of_windows = window_moments(records, width)
        except ValueError as error:
            raise UserError(f"pca: {error}; choose a shorter pca.window than {window} s") from None

        # The shapes are principal components, divided by a standard deviation.
        pca = PCA(k).fit_covariance(moments_of_windows.mean, moments_of_windows.covariance)
        deviation = np.sqrt(pca.explained_variance_ if whiten else pca.explained_variance_.mean())
        rows: Float64 = pca.components_ / np.broadcast_to(deviation, (k,))[:, None]

        frontend = cls(len(moments.mean), k, width, step)
        frontend.pca = pca
        frontend.mean.fill_(moments.scalar_mean)
        frontend.std.fill_(moments.scalar_std)
        frontend.centre.copy_(torch.from_numpy((pca.mean_ - moments.scalar_mean) / moments.scalar_std))
        frontend.projection.copy_(torch.from_numpy(rows * moments.scalar_std))
        return frontend

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, L, T]`` to ``[B, L k, (T - width) // stride + 1]``."""
        # As in `Frontend`, bfloat16 is too coarse.
        with torch.autocast(x.device.type, enabled=False):
            scaled = (x.to(self.mean.dtype) - self.mean) / self.std
            offset = -(self.projection @ self.centre)
            # Each lead becomes a signal of one channel, because all leads share the shapes.
            single_leads = scaled.flatten(0, 1).unsqueeze(1)
            scores = nn.functional.conv1d(single_leads, self.projection.unsqueeze(1), offset, stride=self.stride)
            return scores.reshape(x.shape[0], self.out_channels, scores.shape[2])

    def steps(self, samples: int) -> int:
        """Return the number of steps in the output for a number of samples.

        Raises
        ------
        UserError
            If the samples are fewer than a window.
        """
        width = len(self.centre)
        if samples < width:
            raise UserError(f"pca: a window of {width} samples is longer than the signal, which has {samples}.")
        return (samples - width) // self.stride + 1

    def samples(self, steps: int) -> int:
        """Return the number of samples that a number of steps covers."""
        return (steps - 1) * self.stride + len(self.centre)

    def extra_repr(self) -> str:
        """Show the numbers of channels and shapes, and the windows."""
        k, width = self.projection.shape
        return f"{self.in_channels}, {self.out_channels}, k={k}, width={width}, stride={self.stride}"
