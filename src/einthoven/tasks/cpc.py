"""Contrastive predictive coding: the past of a signal predicts its future, among other moments and records."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.contrastive import info_nce
from einthoven.models.frontend import Classifier
from einthoven.models.pretraining import PredictiveDecoder, TokenModel
from einthoven.tasks.objective import check_objective
from einthoven.tasks.pretext import TokenPretext, check_number


@dataclass(frozen=True, kw_only=True)
class CPC(TokenPretext):
    """Find the latents of the next tokens among latents of any record of the batch and any time.

    The tokens of the network see only the signal around them. A GRU over their latents is the context, which sees no
    later token. A context predicts the latents of the next `steps` tokens.

    Parameters
    ----------
    latent : int
        Features of a latent.
    context : int
        Features of a context.
    steps : int
        Number of tokens ahead that are predicted.
    negatives : int
        Number of wrong candidates, drawn from all latents of the batch.

    Raises
    ------
    UserError
        If an option is out of its range, or the loss does not compare candidates.

    References
    ----------
    van den Oord, Li & Vinyals, "Representation learning with contrastive predictive coding", 2018. On ECGs: Mehari &
    Strodthoff, "Self-supervised representation learning from 12-lead ECG data", 2022.
    """

    latent: int
    context: int
    steps: int
    negatives: int
    objective: Callable[..., Tensor] = info_nce

    name = "cpc"
    output = "candidates"
    score_names = ("loss", "mutual_information", "future_found")
    monitor = "mutual_information"
    metric_titles: ClassVar[Mapping[str, str]] = {
        "mutual_information": "mutual information bound (nats)",
        "future_found": "futures found",
        "loss": "loss",
    }
    compares_records = True
    calls_whole_model = False
    needs_windows = True

    def __post_init__(self) -> None:
        """Check the ranges, and check the loss on two made-up records."""
        for option in ("latent", "context", "steps", "negatives"):
            check_number(option, getattr(self, option), 1)
        check_objective(self.objective, torch.eye(2), self.output)

    def build_model(self, model: Classifier, samples: int) -> Classifier:
        """Return the model with a causal context behind its tokens."""

        def make_decoder(tokens: int, dim: int) -> nn.Module:
            if tokens <= self.steps:
                raise UserError(
                    f"task.steps={self.steps}: a window has {tokens} tokens; expected fewer steps than that."
                )
            return PredictiveDecoder(dim, self.latent, self.context, self.steps)

        return TokenModel(model.frontend, model.network, make_decoder, samples, local=True)

    def candidate_scores(self, model: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the scores of the candidates of each prediction, with the right latent first.

        The negatives come from torch's generator. They are the same for all predictions. A negative that is the right
        latent itself gets the score -∞.

        Returns
        -------
        scores : list of Tensor (B, times, 1 + negatives)
            For each number of steps ahead. The later steps have fewer times.
        contexts : Tensor (B, N, context)
        """
        trained: Any = model
        decoder = trained.decoder
        latents = decoder.to_latent(trained.features(x)).float()
        contexts = decoder.contexts(latents)
        batch, tokens, dim = latents.shape
        drawn = torch.randint(batch * tokens, (self.negatives,), device=x.device)
        negatives = latents.flatten(0, 1)[drawn]
        position = torch.arange(batch * tokens, device=x.device).view(batch, tokens)

        scores = []
        for number, predict in enumerate(decoder.predictions):
            ahead = number + 1
            predicted = predict(contexts[:, :-ahead]).float() / math.sqrt(dim)
            right = (predicted * latents[:, ahead:]).sum(dim=2, keepdim=True)
            # In bfloat16, the wrong candidates would be rounded, and the right one would not.
            with torch.autocast(x.device.type, enabled=False):
                wrong = predicted @ negatives.T
            is_right = position[:, ahead:, None] == drawn
            scores.append(torch.cat([right, wrong.masked_fill(is_right, -math.inf)], dim=2))
        return scores, contexts

    def record_losses(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of each record (B,), and its contexts (B, N, context)."""
        scores, contexts = self.candidate_scores(model, batch.x)
        return self._mean_loss(scores), contexts

    def _mean_loss(self, scores: list[Tensor]) -> Tensor:
        """Return the loss of each record (B,): the mean over the steps ahead of the mean over the times."""
        losses = []
        for of_step in scores:
            batch, times, candidates = of_step.shape
            is_partner = torch.zeros(1, candidates, device=of_step.device)
            is_partner[0, 0] = 1.0
            flat = of_step.flatten(0, 1)
            loss = self.objective(flat, is_partner.expand(len(flat), -1), output=self.output, prior=None)
            losses.append(loss.view(batch, times).mean(dim=1))
        return torch.stack(losses).mean(dim=0)

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return loss, bound of the mutual information in nats, and share of futures found, (B, 3)."""
        scores, _ = self.candidate_scores(model, batch.x)
        loss = self._mean_loss(scores)
        correct_shares = []
        log_candidates = []
        for step_scores in scores:
            correct_shares.append((step_scores.argmax(dim=2) == 0).float().mean(dim=1))
            # A negative that is the right latent itself is no candidate.
            log_candidates.append(step_scores.isfinite().sum(dim=2).log().mean(dim=1))
        # The mean of `mutual_information_bound` over the predictions, which have different numbers of candidates.
        bound = torch.stack(log_candidates).mean(dim=0) - loss
        return torch.stack([loss, bound, torch.stack(correct_shares).mean(dim=0)], dim=1)
