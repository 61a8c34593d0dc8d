"""What stands between millivolts and the network: scaling, and principal components of the leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.functional.pca import PCA, Float64, LeadMoments

if TYPE_CHECKING:
    from einthoven.models.time_frontend import TimeFrontend

# Whitening divides by the standard deviation of each direction. Four of the twelve leads follow from the
# others, so four directions hold only the rounding of the stored samples (1 to 5 microvolts in the files in
# use): below this, in mV, a standard deviation is rounding, not heart.
ROUNDING_MV = 0.005

MODES = ("none", "leads", "whiten")


class Frontend(nn.Module):
    """Scale mV, then project the leads on fixed directions: a 1x1 convolution that is fitted, not trained.

    ``y = projection @ (x - mean) / std + offset`` at every sample, where mean and std are single numbers over
    all leads, as in the PTB-XL benchmark. All four are buffers: they move with the model, are saved in its
    state dict, and no optimizer sees them. Constructed, it is the identity on `in_channels` channels or, for
    another number of `out_channels`, waits for a state dict; `fit` makes one from data.

    Parameters
    ----------
    in_channels
        Leads of the signal.
    out_channels
        Channels handed to the network; as many as leads where it is None.
    """

    mean: Tensor
    std: Tensor
    projection: Tensor
    offset: Tensor
    stride: ClassVar[int] = 1

    def __init__(self, in_channels: int = 12, out_channels: int | None = None) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = in_channels if out_channels is None else out_channels
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("projection", torch.eye(self.out_channels, in_channels))
        self.register_buffer("offset", torch.zeros(self.out_channels))

    @classmethod
    def fit(cls, moments: LeadMoments, mode: str = "none", k: int | None = None) -> Self:
        """Fit to the moments (in mV) of the training records.

        Parameters
        ----------
        moments
            From `einthoven.functional.pca.lead_moments`.
        mode
            ``none``: scale only. ``leads``: the first `k` principal components of the leads, all divided by
            one number that brings their mean variance to 1, so their relative sizes stay. ``whiten``: each
            component divided by its own standard deviation; components that hold nothing but rounding are
            dropped.
        k
            Number of components, all of them where it is None; of fewer leads than `k`, as many as there are
            leads. ``whiten`` may keep fewer; ``none`` takes no `k`.

        Raises
        ------
        UserError
            If the mode is unknown, `k` does not fit it or is not within 1 and 12, or the signals do not vary.
        """
        leads = len(moments.mean)
        if mode not in MODES:
            raise UserError(f"pca: mode must be one of {', '.join(MODES)}, found {mode!r}")
        most = max(leads, len(LEADS))  # what suits twelve leads suits fewer: the default need not be changed for them
        if k is not None and mode != "none" and not 1 <= k <= most:
            raise UserError(f"pca: k must lie within 1 and {most}, the number of leads, found {k}")
        if not np.trace(moments.covariance) > 0:
            raise UserError("the training signals do not vary: there is nothing to scale")
        if mode == "none":
            if k is not None:
                raise UserError(f"pca: mode none keeps all {leads} leads, but k={k} was given; remove k")
            rows: Float64 = np.eye(leads)
            centre = np.full(leads, moments.scalar_mean)
        else:
            rows = _directions(moments, mode, k if k is None else min(k, leads))
            centre = moments.mean
        frontend = cls(leads, len(rows))
        frontend.mean.fill_(moments.scalar_mean)
        frontend.std.fill_(moments.scalar_std)
        # The centre of each lead, where it differs from the scalar mean, is subtracted after the projection.
        offset = -rows @ ((centre - moments.scalar_mean) / moments.scalar_std)
        frontend.projection.copy_(torch.from_numpy(rows))
        frontend.offset.copy_(torch.from_numpy(offset))
        return frontend

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, in_channels, T]`` to ``[B, out_channels, T]`` of about unit variance."""
        with torch.autocast(x.device.type, enabled=False):  # bf16 would drown the smallest components
            scaled = (x.to(self.mean.dtype) - self.mean) / self.std
            return nn.functional.conv1d(scaled, self.projection.unsqueeze(-1), self.offset)

    def steps(self, samples: int) -> int:
        """Steps that the network sees of so many samples."""
        return samples

    def samples(self, steps: int) -> int:
        """Samples that so many steps are made of."""
        return steps

    def extra_repr(self) -> str:
        """Show the channels in and out."""
        return f"{self.in_channels}, {self.out_channels}"


class Classifier(nn.Module):
    """The model of a run: raw mV in, logits out.

    Parameters
    ----------
    frontend
        Fitted on the training records.
    network
        Maps ``[B, frontend.out_channels, T]`` to logits ``[B, K]``. Its direct children are its stages.
    """

    def __init__(self, frontend: Frontend | TimeFrontend, network: nn.Module) -> None:
        super().__init__()
        self.frontend = frontend
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to logits ``[B, K]``."""
        logits: Tensor = self.network(self.frontend(x))
        return logits

    def windows(self, samples: int) -> tuple[list[int], int]:
        """Where the windows begin that the network is given one by one, and how long they are: the whole record."""
        return [0], samples

    def pieces(self, samples: int) -> tuple[list[int], int]:
        """Where the parts of a window begin whose tokens attention reads one by one, and how long they are.

        In samples, in the order in which they lie in the network's batch; the whole window for a network that does not
        cut. The last may end a little after the window.
        """
        cut: Callable[[int], tuple[list[int], int]] | None = getattr(self.network, "pieces", None)
        if cut is None:
            return [0], samples
        starts, length = cut(self.frontend.steps(samples))
        return [start * self.frontend.stride for start in starts], self.frontend.samples(length)


def _directions(moments: LeadMoments, mode: str, k: int | None) -> Float64:
    """Rows ``(k, leads)`` that take scaled, centred signals to components of about unit variance."""
    variance = moments.scalar_std**2
    # Of the signals after scaling by the one standard deviation.
    covariance = moments.covariance / variance
    largest = float(np.linalg.eigvalsh(moments.covariance)[-1])
    pca = PCA(k, whiten=mode == "whiten", tolerance=ROUNDING_MV**2 / largest).fit_covariance(moments.mean, covariance)
    if mode == "whiten":
        return pca.components_ / np.sqrt(pca.explained_variance_)[:, None]
    rows: Float64 = pca.components_ / np.sqrt(pca.explained_variance_.mean())
    return rows
