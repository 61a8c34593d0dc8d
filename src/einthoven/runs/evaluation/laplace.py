"""`einthoven evaluate laplace=true`: predictions of a finished network with its last layer integrated out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.contracts import Predictions
from einthoven.data.store.batches import evaluation_batches
from einthoven.errors import UserError
from einthoven.evaluation.laplace import fit_last_layer
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.predict.network import last_layer
from einthoven.runs.network.network_parts import NetworkParts

_BATCH = 64

_MAX_FEATURES = 2048
"""The covariance of so many features takes 32 MB for each class."""


class LaplaceRun:
    """A finished run whose last layer has a posterior distribution, fitted on the training records.

    Raises
    ------
    UserError
        If the labels are not independent, or the network does not end in a linear layer of moderate size.
    """

    def __init__(self, run: NetworkParts) -> None:
        if run.task.single_label:
            raise UserError("laplace=true: expected several labels, each with a probability of its own; found one.")
        if run.data.targets is not None:
            raise UserError(
                f"laplace=true: expected a last layer with an output for each class, found one whose outputs are the "
                f"statements of task.targets={run.task.targets}."
            )
        layer = last_layer(run.model, len(run.data.labels.classes))
        if layer is None or layer.in_features > _MAX_FEATURES:
            last = f"one on {layer.in_features} features" if layer else "none"
            raise UserError(
                f"laplace=true: expected a last linear layer on {_MAX_FEATURES} features or fewer, found {last}."
            )
        self.run = run
        self.layer = layer
        features, _ = self._layer_inputs("train")
        windows = features.shape[1]
        # The windows of a record are not independent: together they count as one record.
        self.posterior = fit_last_layer(
            features.reshape(-1, features.shape[-1]), self._layer_weights(), share=1.0 / windows
        )

    def evaluate(self, split: str, aggregate: str | None = None) -> Predictions:
        """Predict the records of a split. Same parameters as `NetworkParts.evaluate`."""
        aggregate = aggregate or self.run.settings.trainer.aggregate
        features, y = self._layer_inputs(split)
        records, windows, width = features.shape
        p = self.posterior.predict(features.reshape(-1, width)).reshape(records, windows, -1)
        return self.run.data.by_record(split, Predictions(y, aggregate_windows(p, aggregate)), aggregate)

    def _layer_weights(self) -> NDArray[np.float64]:
        """Return the weights (K, d + 1) of the layer divided by the temperature, with the bias last."""
        weight = self.layer.weight.detach().cpu()
        bias = self.layer.bias
        column = torch.zeros(self.layer.out_features) if bias is None else bias.detach().cpu()
        weights: NDArray[np.float64] = torch.cat([weight, column[:, None]], dim=1).double().numpy()
        return weights / float(self.run.task.temperature)

    @torch.no_grad()
    def _layer_inputs(self, split: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the inputs of the last layer for each window of each row (n, W, d), and the labels (n, K).

        If a model averages the logits of several crops, this is the mean of their inputs, as the layer is linear.
        """
        run = self.run
        inputs: list[Tensor] = []
        handle = self.layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].float()))
        features = []
        labels = []
        run.model.eval()
        try:
            for batch in evaluation_batches(run.data.splits[split], size=_BATCH):
                inputs.clear()
                logits = apply_to_windows(run.model, batch.x, run.window, run.stride).float()
                records, windows = logits.shape[:2]
                if len(inputs) == 1:
                    batch_features = inputs[0].reshape(records, windows, -1, self.layer.in_features).mean(dim=2)
                else:
                    batch_features = logits.new_zeros(records, windows, self.layer.in_features)

                # The layer must give the logits of the model. Otherwise it is not the last step of the network.
                expected = nn.functional.linear(batch_features, self.layer.weight, self.layer.bias)
                if expected.shape != logits.shape or not torch.allclose(expected, logits, rtol=1e-3, atol=1e-3):
                    raise UserError("laplace=true: the logits of this model are not those of its last linear layer.")
                features.append(batch_features[batch.valid].double().cpu())
                labels.append(batch.y[batch.valid].double().cpu())
        finally:
            handle.remove()
        return torch.cat(features).numpy(), torch.cat(labels).numpy()
