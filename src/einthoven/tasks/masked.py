"""Masked pretraining: a part of the signal is hidden, and the network reconstructs it from the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.regression import mse
from einthoven.models.frontend import Classifier
from einthoven.models.pretraining import TokenDecoder, TokenModel
from einthoven.tasks.objective import check_objective
from einthoven.tasks.pretext import Array, TokenPretext, check_number

HIDE = ("patches", "times", "leads")


@dataclass(frozen=True, kw_only=True)
class Masked(TokenPretext):
    """Reconstruct the hidden patches of a signal. The loss is that of the hidden patches alone.

    A patch is a short time in one lead. Hidden patches are 0 mV for the network: convolutions cannot leave them out, as
    a transformer can. The decoder reads the tokens of the network. It reconstructs the scaled signal, in standard
    deviations of the training records.

    Parameters
    ----------
    share : float
        Share of the signal that is hidden, between 0 and 1.
    hide : str
        ``patches``: any patches. ``times``: patches of all leads at the same time. ``leads``: whole leads.
    patch : float
        Length of a patch in seconds.
    fs : float
        Sampling frequency in Hz.
    hidden : int
        Hidden features of the decoder.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss does not compare signals.

    References
    ----------
    He et al., "Masked autoencoders are scalable vision learners", CVPR 2022. Patches of leads: Na et al., "Guiding
    masked representation learning to capture spatio-temporal relationship of electrocardiogram", ICLR 2024 (ST-MEM).
    """

    share: float
    hide: str
    patch: float
    fs: float
    hidden: int
    objective: Callable[..., Tensor] = mse

    name = "masked"
    output = "signal"
    score_names = ("loss", "energy")
    summary_names = ("loss", "r2")
    monitor = "r2"
    metric_titles: ClassVar[Mapping[str, str]] = {"r2": "R² of the hidden signal", "loss": "loss"}
    needs_windows = True

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        if not 0 < self.share < 1:
            raise UserError(f"task.share={self.share}: expected a share between 0 and 1.")
        if self.hide not in HIDE:
            raise UserError(f"task.hide={self.hide}: expected {', '.join(HIDE)}.")
        if round(self.patch * self.fs) < 1:
            raise UserError(f"task.patch={self.patch}: expected seconds, at least one sample ({1 / self.fs:g} s).")
        check_number("hidden", self.hidden, 1)
        check_objective(self.objective, torch.eye(2), "identity")

    @property
    def patch_samples(self) -> int:
        """Samples of a patch."""
        return round(self.patch * self.fs)

    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model with a decoder of signals behind its tokens."""
        if samples < 2 * self.patch_samples:
            raise UserError(
                f"task.patch={self.patch}: a window of {samples / self.fs:g} s has no two patches; expected less."
            )
        leads = model.frontend.in_channels
        if self.hide == "leads" and leads == 1:
            raise UserError("task.hide=leads: these records have one lead; expected patches or times.")

        def make_decoder(tokens: int, dim: int) -> nn.Module:
            return TokenDecoder(dim, tokens, leads, samples, self.hidden)

        return TokenModel(model.frontend, model.network, make_decoder, samples)

    def draw_patches(self, x: Tensor) -> Tensor:
        """Draw the hidden patches of signals (B, L, T), as numbers (B, M) of patches, lead by lead.

        All records hide the same number of patches. The random numbers come from torch's generator.
        """
        batch, leads, samples = x.shape
        times = samples // self.patch_samples
        rows = leads if self.hide != "times" else 1
        columns = times if self.hide != "leads" else 1
        # At least one unit is hidden, and at least one stays.
        units = rows * columns
        hidden_units = min(max(1, round(self.share * units)), units - 1)
        rank = torch.rand(batch, rows, columns, device=x.device)
        # The same rank for all patches of a unit: they stay together in the sorted order.
        order = rank.expand(batch, leads, times).flatten(1).argsort(dim=1, stable=True)
        return order[:, : hidden_units * (leads * times // units)]

    def to_patches(self, x: Tensor) -> Tensor:
        """Cut signals (B, L, T) into patches (B, L P, samples of a patch), without a rest at the end."""
        size = self.patch_samples
        times = x.shape[2] // size
        return x[..., : times * size].reshape(len(x), -1, size)

    def hide_patches(self, x: Tensor, patches: Tensor) -> Tensor:
        """Return signals (B, L, T) with 0 mV in the patches (B, M)."""
        batch, leads, samples = x.shape
        times = samples // self.patch_samples
        is_kept = torch.ones(batch, leads * times, device=x.device).scatter(1, patches, 0.0)
        per_sample = is_kept.view(batch, leads, times).repeat_interleave(self.patch_samples, dim=2)
        kept_rest = torch.ones(batch, leads, samples - per_sample.shape[2], device=x.device)
        return x * torch.cat([per_sample, kept_rest], dim=2)

    def hidden_parts(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Hide patches and reconstruct them.

        Returns
        -------
        reconstruction : Tensor (B, L, T)
            The whole scaled signal.
        reconstructed, expected : Tensor (B, samples in hidden patches)
            The hidden patches of the reconstruction, and of the scaled signal.
        patches : Tensor (B, M)
            Numbers of the hidden patches.
        """
        frontend: Any = model.frontend
        patches = self.draw_patches(x)
        reconstruction = model(self.hide_patches(x, patches)).float()
        scaled = (x - frontend.mean) / frontend.std
        index = patches[:, :, None].expand(-1, -1, self.patch_samples)
        reconstructed = self.to_patches(reconstruction).gather(1, index).flatten(1)
        expected = self.to_patches(scaled).gather(1, index).flatten(1)
        return reconstruction, reconstructed, expected, patches

    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each record (B,), and the reconstruction (B, L, T)."""
        reconstruction, reconstructed, expected, _ = self.hidden_parts(model, batch.x)
        return self.objective(reconstructed, expected, output="identity", prior=None), reconstruction

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss, and the mean square of the hidden scaled signal, (B, 2)."""
        _, reconstructed, expected, _ = self.hidden_parts(model, batch.x)
        loss = self.objective(reconstructed, expected, output="identity", prior=None)
        return torch.stack([loss, expected.square().mean(dim=1)], dim=1)

    def reconstruct(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstructions of signals (B, L, T) in mV, and which samples were hidden."""
        frontend: Any = model.frontend
        scaled, _, _, patches = self.hidden_parts(model, x)
        is_hidden = self.hide_patches(torch.ones_like(x), patches) == 0
        return scaled * frontend.std + frontend.mean, is_hidden

    def summarize(self, means: Array) -> Array:
        """Return loss and R² from the mean loss and the mean energy (R, 2).

        R² is 1 minus the ratio of both: 0 for a flat line, 1 for the signal itself. It assumes the squared error.
        """
        ratio = means[:, 0] / means[:, 1]
        summary = means.copy()
        summary[:, 1] = 1 - ratio
        return summary
