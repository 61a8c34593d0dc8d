"""Contrastive pretraining: two views of a record are similar, and views of other records are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from einthoven.contracts import Augment, Batch
from einthoven.errors import UserError
from einthoven.losses.contrastive import mutual_information_bound, nt_xent, view_scores
from einthoven.models.frontend import Classifier
from einthoven.models.pretraining import PretrainingModel, ProjectionHead
from einthoven.tasks.objective import check_objective
from einthoven.tasks.pretext import Pretext, check_number

PAIRS = ("record", "patient")


@dataclass(frozen=True, kw_only=True)
class Contrastive(Pretext):
    """Find the other view of the same record among all views of the batch.

    The augmentation of the run makes both views. The head of the network has `hidden` outputs. Together with the
    decoder it is the projection head, which a later training leaves out.

    Parameters
    ----------
    hidden : int
        Hidden features of the projection head.
    dims : int
        Dimensions of the projections that are compared.
    pairs : str
        ``record``: two views of one record. ``patient``: views of two records of one patient, where a patient has
        several. Other records of the patient in the same batch stay among the candidates.
    views : callable, optional
        The augmentation. The run sets it.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss does not compare views.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020. Records of one
    patient: Kiyasseh et al., "CLOCS: contrastive learning of cardiac signals across space, time, and patients", ICML
    2021.
    """

    hidden: int
    dims: int
    pairs: str
    objective: Callable[..., Tensor] = nt_xent
    views: Augment | None = None

    name = "contrastive"
    output = "views"
    score_names = ("loss", "mutual_information", "partner_found")
    monitor = "mutual_information"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "mutual_information": "mutual information bound (nats)",
        "partner_found": "partners found",
        "loss": "loss",
    }
    compares_records = True
    augments_itself = True

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        check_number("hidden", self.hidden, 1)
        check_number("dims", self.dims, 1)
        if self.pairs not in PAIRS:
            raise UserError(f"task.pairs={self.pairs}: expected record or patient.")
        check_objective(self.objective, torch.eye(2), self.output)

    @property
    def pairs_records(self) -> bool:
        """Whether each row of a batch has two records of one patient, x (B, 2, L, T)."""
        return self.pairs == "patient"

    @property
    def network_outputs(self) -> int:
        """Number of outputs that the network is built with: the hidden features of the projection head."""
        return self.hidden

    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model with the second layer of the projection head as its decoder."""
        return PretrainingModel(model.frontend, model.network, ProjectionHead(self.hidden, self.dims))

    def two_views(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return two views of records (B, L, T), or of pairs of records (B, 2, L, T), each (B, L, T)."""
        first, second = x.unbind(1) if x.ndim == 4 else (x, x)
        # The views are a function of torch's generator, which the training loop seeds in each step.
        seed = int(torch.randint(2**62, ()))
        generator = torch.Generator(x.device).manual_seed(seed)
        if self.views is not None:
            no_labels = x.new_zeros(len(x), 0)
            first, _ = self.views(first, no_labels, generator)
            second, _ = self.views(second, no_labels, generator)
        return first, second

    def project(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projections (B, dims) of two views of each record.

        Parameters
        ----------
        x : Tensor (B, L, T), or (B, 2, L, T)
            Records in mV, or two records for each row.
        """
        first, second = self.two_views(x)
        # One forward pass of all views: batch normalization sees both.
        a, b = model(torch.cat([first, second])).float().chunk(2)
        return a, b

    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each record (B,), and the projections of its first view (B, dims)."""
        a, b = self.project(model, batch.x)
        return self.objective(a, b, output=self.output, prior=None), a

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return loss, bound of the mutual information in nats, and share of partners found, (B, 3)."""
        a, b = self.project(model, batch.x)
        loss = self.objective(a, b, output=self.output, prior=None)
        n = len(a)
        candidates = max(2 * n - 1, 1)

        partners = torch.arange(2 * n, device=a.device).roll(n)
        is_found = (view_scores(a, b).argmax(dim=1) == partners).float()
        share_found = is_found.view(2, n).mean(dim=0)
        return torch.stack([loss, mutual_information_bound(loss, candidates), share_found], dim=1)
