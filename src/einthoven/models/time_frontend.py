"""Principal components of time: each lead read through the shapes that short windows of ECG take."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional.pca import PCA, Float64, LeadMoments, window_moments


class TimeFrontend(nn.Module):
    """Scale mV, then project windows of each lead on fixed shapes: a strided convolution that is fitted, not trained.

    ``y[l k + i, t] = shape_i · (window of lead l at t stride - centre)``: the `k` scores of lead l are channels
    ``l k … l k + k - 1``. All leads share the shapes. Windows lie within the record, so T samples become
    ``(T - width) // stride + 1``. Constructed, it waits for a state dict; `fit` makes one from data.

    Parameters
    ----------
    in_channels
        Leads of the signal.
    k
        Shapes.
    width, stride
        Samples of a window, and from one to the next.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    projection: Tensor

    def __init__(self, in_channels: int, k: int, width: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, in_channels * k
        self.stride = stride
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("projection", torch.eye(k, width))
        self.pca = PCA(k)  # fitted by `fit`

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
            Of the leads, in mV: for the scale.
        records
            Arrays ``(n, L, T)`` in mV.
        window, stride
            Seconds of a window, and from one to the next.
        k
            Shapes to keep.
        whiten
            Divide each score by its own standard deviation, else all by one number that brings their mean
            variance to 1.
        fs
            Sampling frequency, Hz.

        Raises
        ------
        UserError
            If `k` does not fit the window, or the window the records, or the signals do not vary.
        """
        if not 0 < window * fs < math.inf or not 0 < stride * fs < math.inf:
            raise UserError(f"pca: window={window} s and stride={stride} s at {fs} Hz; expected numbers above 0.")
        width, step = round(window * fs), round(stride * fs)
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
            found = window_moments(records, width)
        except ValueError as error:
            raise UserError(f"pca: {error}; choose a shorter pca.window than {window} s") from None
        pca = PCA(k).fit_covariance(found.mean, found.covariance)
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
        with torch.autocast(x.device.type, enabled=False):  # as in `Frontend`
            scaled = (x.to(self.mean.dtype) - self.mean) / self.std
            offset = -(self.projection @ self.centre)
            single = scaled.flatten(0, 1).unsqueeze(1)
            scores = nn.functional.conv1d(single, self.projection.unsqueeze(1), offset, stride=self.stride)
            return scores.reshape(x.shape[0], self.out_channels, scores.shape[2])

    def inverse(self, scores: Tensor) -> Tensor:
        """Map scores back to mV ``[B, L, T']``, T' the samples that windows cover: the mean where they overlap.

        Exact where k is the width of a window; else each window is the nearest to its own in the span.
        """
        k, width = self.projection.shape
        batch, _, steps = scores.shape
        norms = self.projection.square().sum(dim=1, keepdim=True)
        single = scores.reshape(-1, k, steps)
        back = nn.functional.conv_transpose1d(single, (self.projection / norms).unsqueeze(1), stride=self.stride)
        ones = torch.ones((1, 1, steps), dtype=back.dtype, device=back.device)
        centre = nn.functional.conv_transpose1d(ones, self.centre.view(1, 1, width), stride=self.stride)
        cover = nn.functional.conv_transpose1d(ones, torch.ones_like(self.centre).view(1, 1, width), stride=self.stride)
        mean = (back + centre) / cover
        return mean.view(batch, self.in_channels, -1) * self.std + self.mean

    def steps(self, samples: int) -> int:
        """Steps that the network sees of so many samples.

        Raises
        ------
        UserError
            If they are fewer than a window.
        """
        width = len(self.centre)
        if samples < width:
            raise UserError(f"pca: a window of {width} samples is longer than the signal, which has {samples}.")
        return (samples - width) // self.stride + 1

    def samples(self, steps: int) -> int:
        """Samples that so many steps are made of."""
        return (steps - 1) * self.stride + len(self.centre)

    def extra_repr(self) -> str:
        """Show the channels, and the windows."""
        k, width = self.projection.shape
        return f"{self.in_channels}, {self.out_channels}, k={k}, width={width}, stride={self.stride}"
