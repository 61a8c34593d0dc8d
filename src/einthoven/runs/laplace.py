"""`einthoven evaluate laplace=true`: probabilities of a finished network, its last layer's weights integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from einthoven.contracts import Predictions
from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.evaluation.laplace import fit_last_layer
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.predict.network import last_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from einthoven.runs.network_parts import NetworkParts

_RECORDS_AT_ONCE = 64
_MOST_FEATURES = 2048  # whose covariance takes 32 MB a class


class LaplaceRun:
    """A finished run whose last layer is a posterior, fitted on the training records.

    Raises
    ------
    UserError
        If the labels are not independent, or the network does not end in a linear layer of some size.
    """

    def __init__(self, run: NetworkParts) -> None:
        if run.task.single_label:
            raise UserError("laplace=true: expected several labels, each with a probability of its own; found one.")
        layer = last_layer(run.model, len(run.data.labels.classes))
        if layer is None or layer.in_features > _MOST_FEATURES:
            found = f"one on {layer.in_features} features" if layer else "none"
            raise UserError(
                f"laplace=true: expected a last linear layer on {_MOST_FEATURES} features or fewer, found {found}."
            )
        self.run, self.layer = run, layer
        features, _ = self._seen("train")
        self.posterior = fit_last_layer(
            features.reshape(-1, features.shape[-1]), self._weights(), share=1.0 / features.shape[1]
        )

    def evaluate(self, split: str, aggregate: str | None = None) -> Predictions:
        """Labels and probabilities of the records of a split, as `NetworkParts.evaluate`."""
        aggregate = aggregate or self.run.settings.trainer.aggregate
        features, y = self._seen(split)
        p = self.posterior.predict(features.reshape(-1, features.shape[-1])).reshape(*features.shape[:2], -1)
        return self.run.data.by_record(split, Predictions(y, aggregate_windows(p, aggregate)), aggregate)

    def _weights(self) -> NDArray[np.float64]:
        """Weights (K, d + 1) of the layer over the temperature, its bias last."""
        weight, bias = self.layer.weight.detach().cpu(), self.layer.bias
        last = torch.zeros(self.layer.out_features) if bias is None else bias.detach().cpu()
        weights: NDArray[np.float64] = torch.cat([weight, last[:, None]], dim=1).double().numpy()
        return weights / float(self.run.task.temperature)

    @torch.no_grad()
    def _seen(self, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the last layer sees of each window of each record (n, W, d), and the labels (n, K).

        A model that averages the logits of several crops has the mean of their features here: the layer is linear.
        """
        run, caught = self.run, list[Tensor]()
        handle = self.layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].float()))
        features, labels = [], []
        run.model.eval()
        try:
            for batch in evaluation_batches(run.data.splits[split], size=_RECORDS_AT_ONCE):
                caught.clear()
                logits = apply_to_windows(run.model, batch.x, run.window, run.stride).float()
                shape = logits.shape[:2]
                (inputs,) = caught if len(caught) == 1 else (logits.new_zeros(*shape, self.layer.in_features),)
                phi = inputs.reshape(*shape, -1, self.layer.in_features).mean(dim=2)
                expected = nn.functional.linear(phi, self.layer.weight, self.layer.bias)
                if expected.shape != logits.shape or not torch.allclose(expected, logits, rtol=1e-3, atol=1e-3):
                    raise UserError("laplace=true: the logits of this model are not those of its last linear layer.")
                features.append(phi[batch.valid].double().cpu())
                labels.append(batch.y[batch.valid].double().cpu())
        finally:
            handle.remove()
        return torch.cat(features).numpy(), torch.cat(labels).numpy()
