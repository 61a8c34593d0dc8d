"""The frontend between millivolts and the network: scaling, and principal components of the leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from einthoven.errors import UserError
from einthoven.functional.leads import LEADS
from einthoven.functional.moments import LeadMoments
from einthoven.functional.pca import PCA, Float64
from einthoven.models.readout import Readout

if TYPE_CHECKING:
    from einthoven.models.time_frontend import TimeFrontend

ROUNDING_MV = 0.005
"""Standard deviation, in mV, below which a direction contains only rounding errors.

Whitening divides by the standard deviation of each direction. Four of the twelve leads follow from the others, so four
directions contain only the rounding of the stored samples, which is 1 to 5 microvolts in common files.
"""

MODES = ("none", "leads", "whiten")


class Frontend(nn.Module):
    """Scale mV, then project the leads on fixed directions. This is a 1x1 convolution that is fitted, not trained.

    At every sample ``y = projection @ (x - mean) / std + offset``. Mean and std are single numbers over all leads, as
    in the PTB-XL benchmark. All four are buffers: they move with the model and are saved in its state dict, and no
    optimizer changes them. `fit` builds a frontend from data. The constructor builds the identity if `out_channels`
    equals `in_channels`. Otherwise the frontend needs a state dict.

    Parameters
    ----------
    in_channels
        Leads of the signal.
    out_channels
        Channels of the output. None: as many as leads.
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
            From `einthoven.functional.moments.lead_moments`.
        mode
            ``none``: scale only. ``leads``: the first `k` principal components of the leads, all divided by one number
            so that their mean variance is 1. Their relative sizes stay. ``whiten``: each component is divided by its
            own standard deviation, and components that contain only rounding errors are dropped.
        k
            Number of components, at most the number of leads. None: all components. ``whiten`` may keep fewer. ``none``
            accepts no `k`.

        Raises
        ------
        UserError
            If the mode is unknown, `k` does not fit the mode or does not lie within 1 and 12, or the signals do not
            vary.
        """
        leads = len(moments.mean)
        if mode not in MODES:
            raise UserError(f"pca: mode must be one of {', '.join(MODES)}, found {mode!r}")
        # A `k` for twelve leads is also accepted for fewer leads, so that the default need not be changed.
        most = max(leads, len(LEADS))
        if k is not None and mode != "none" and not 1 <= k <= most:
            raise UserError(f"pca: k must lie within 1 and {most}, the number of leads, found {k}")
        if not np.trace(moments.covariance) > 0:
            raise UserError("the training signals do not vary: there is nothing to scale")

        # The rows of the projection, and the centre of each lead in mV
        if mode == "none":
            if k is not None:
                raise UserError(f"pca: mode none keeps all {leads} leads, but k={k} was given; remove k")
            rows: Float64 = np.eye(leads)
            centre = np.full(leads, moments.scalar_mean)
        else:
            rows = _directions(moments, mode, None if k is None else min(k, leads))
            centre = moments.mean

        frontend = cls(leads, len(rows))
        frontend.mean.fill_(moments.scalar_mean)
        frontend.std.fill_(moments.scalar_std)
        # `forward` subtracts the scalar mean. The difference to the centre of each lead is subtracted here.
        offset = -rows @ ((centre - moments.scalar_mean) / moments.scalar_std)
        frontend.projection.copy_(torch.from_numpy(rows))
        frontend.offset.copy_(torch.from_numpy(offset))
        return frontend

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, in_channels, T]`` to ``[B, out_channels, T]`` of about unit variance."""
        # In bfloat16, rounding errors would be larger than the smallest components.
        with torch.autocast(x.device.type, enabled=False):
            scaled = (x.to(self.mean.dtype) - self.mean) / self.std
            return nn.functional.conv1d(scaled, self.projection.unsqueeze(-1), self.offset)

    def steps(self, samples: int) -> int:
        """Return the number of steps in the output for a number of samples."""
        return samples

    def samples(self, steps: int) -> int:
        """Return the number of samples that a number of steps covers."""
        return steps

    def extra_repr(self) -> str:
        """Show the numbers of channels."""
        return f"{self.in_channels}, {self.out_channels}"


class Classifier(nn.Module):
    """The model of a run. It maps mV to logits.

    Parameters
    ----------
    frontend
        Fitted on the training records.
    network
        Maps ``[B, frontend.out_channels, T]`` to logits ``[B, K]``. Its direct children are its stages.
    readout
        Reads the classes from the logits of the network, if these are statements. None: the network has a logit for
        each class.
    """

    def __init__(self, frontend: Frontend | TimeFrontend, network: nn.Module, readout: Readout | None = None) -> None:
        super().__init__()
        self.frontend = frontend
        self.network = network
        self.readout = readout
        # Dotted names of modules that stay in evaluation mode, such as the frozen stages of a fine-tuning.
        self.frozen: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode or to evaluation mode. Frozen modules stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to logits ``[B, K]``."""
        logits: Tensor = self.network(self.frontend(x))
        if self.readout is None:
            return logits
        # In bfloat16, the sums of the readout would be inexact.
        return self.readout(logits.float())

    def windows(self, samples: int) -> tuple[list[int], int]:
        """Return the starts and the length of the windows of a record: one window, the whole record."""
        return [0], samples

    def pieces(self, samples: int) -> tuple[list[int], int]:
        """Return the starts and the length, in samples, of the pieces of a window that attention reads separately.

        The order is the order in the batch of the network. A network without pieces reads the whole window at once. The
        last piece may end a little after the window.
        """
        network_pieces: Callable[[int], tuple[list[int], int]] | None = getattr(self.network, "pieces", None)
        if network_pieces is None:
            return [0], samples
        starts, length = network_pieces(self.frontend.steps(samples))
        return [start * self.frontend.stride for start in starts], self.frontend.samples(length)


def _directions(moments: LeadMoments, mode: str, k: int | None) -> Float64:
    """Return the rows ``(k, leads)`` that map scaled, centred signals to components of about unit variance."""
    # Covariance of the scaled signals
    variance = moments.scalar_std**2
    covariance = moments.covariance / variance

    largest = float(np.linalg.eigvalsh(moments.covariance)[-1])
    tolerance = ROUNDING_MV**2 / largest
    pca = PCA(k, whiten=mode == "whiten", tolerance=tolerance).fit_covariance(moments.mean, covariance)
    if mode == "whiten":
        return pca.components_ / np.sqrt(pca.explained_variance_)[:, None]
    return pca.components_ / np.sqrt(pca.explained_variance_.mean())
