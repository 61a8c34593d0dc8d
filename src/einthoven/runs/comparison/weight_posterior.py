"""An analysis of a run with an L2 penalty: prior and posterior of the weights of its last layer."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.probes import Trained
from einthoven.errors import UserError
from einthoven.evaluation.laplace import fit_last_layer
from einthoven.predict.network import last_layer

MOST_FEATURES = 2048
"""The covariance of so many features takes 32 MB for each class."""

CHUNK = 256  # records in one forward pass


class WeightPosterior:
    """Computes the prior and the posterior of the weights of the last layer, with the features before it fixed.

    An L2 penalty λ/2 Σ w² on a loss that is a mean over n records and K classes is a Gaussian prior of each weight,
    with mean 0 and variance 1/(nKλ). The posterior is the Laplace approximation at the trained weights.

    Parameters
    ----------
    strength : float or None
        λ, above 0. None if the run has no penalty.

    Raises
    ------
    UserError
        If there is no strength above 0.
    """

    def __init__(self, *, strength: float | None) -> None:
        if strength is None or not strength > 0:
            raise UserError(f"analysis.strength={strength}: expected the strength of an L2 penalty, above 0.")
        self._strength = strength

    @torch.no_grad()
    def __call__(self, trained: Trained) -> dict[str, Tensor]:
        """Compute the distributions from the training records.

        Returns
        -------
        dict
            ``mean`` and ``deviation`` (K, d): of the posterior of each weight, without the biases.
            ``prior_deviation``: standard deviation of the prior of each weight.
            ``determined``: MacKay's number of well-determined weights, Σ (1 - posterior variance / prior variance).

        Raises
        ------
        UserError
            If the classes are not independent, or the network does not end in a linear layer of moderate size.
        """
        if getattr(trained.task, "single_label", False):
            raise UserError("analysis=weight_posterior: expected several labels, each with a probability of its own.")
        layer = last_layer(trained.model, len(trained.classes))
        if layer is None or layer.in_features > MOST_FEATURES:
            what_it_has = f"one on {layer.in_features} features" if layer else "none"
            raise UserError(
                f"analysis=weight_posterior: expected a last linear layer on {MOST_FEATURES} features or fewer, found "
                f"{what_it_has}."
            )
        inputs: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].double().cpu()))
        try:
            for rows in torch.split(torch.arange(trained.records["train"]), CHUNK):
                trained.model(trained.batch("train", rows).x)
        finally:
            handle.remove()
        features = torch.cat(inputs).numpy()
        if len(features) != trained.records["train"]:
            raise UserError(
                "analysis=weight_posterior: the last layer reads several windows of a record; expected a network that "
                "reads a record at once, such as model=mlp."
            )
        bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(layer.out_features)
        weights = torch.cat([layer.weight, bias[:, None]], dim=1).double().cpu().numpy()

        precision = len(features) * len(trained.classes) * self._strength
        posterior = fit_last_layer(features, weights, prior_precision=precision)
        variance = torch.from_numpy(posterior.covariance).diagonal(dim1=1, dim2=2)[:, :-1]
        return {
            "mean": torch.from_numpy(posterior.weights[:, :-1]),
            "deviation": variance.sqrt(),
            "prior_deviation": torch.tensor(precision**-0.5),
            "determined": (1.0 - precision * variance).sum(),
        }
