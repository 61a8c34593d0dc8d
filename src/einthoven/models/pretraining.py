"""The model of a pretraining run: an encoder, and a decoder that only the pretraining needs."""

from __future__ import annotations

from torch import Tensor, nn

from einthoven.models.blocks import linear
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.time_frontend import TimeFrontend


class PretrainingModel(Classifier):
    """A classifier whose network is the encoder, followed by a decoder.

    In the state dict, the encoder is ``frontend.*`` and ``network.*``, as in a classifier. The decoder is
    ``decoder.*``, and a later training leaves it out.

    Parameters
    ----------
    frontend, network
        As in `Classifier`. The head of the network belongs to the pretraining, too.
    decoder
        Maps the output of the network to what the task needs, such as projections or signals.
    """

    def __init__(self, frontend: Frontend | TimeFrontend, network: nn.Module, decoder: nn.Module) -> None:
        super().__init__(frontend, network)
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        """Map mV ``[B, leads, T]`` to the outputs of the decoder ``[B, ...]``."""
        outputs: Tensor = self.decoder(self.network(self.frontend(x)))
        return outputs


class ProjectionHead(nn.Sequential):
    """The second layer of the projection head of a contrastive task. The head of the network is the first layer.

    Batch normalization, ReLU and a linear layer: ``[B, hidden]`` to ``[B, dims]``.

    References
    ----------
    Chen et al., "A simple framework for contrastive learning of visual representations", ICML 2020, section 4.2.
    """

    def __init__(self, hidden: int, dims: int) -> None:
        super().__init__(nn.BatchNorm1d(hidden), nn.ReLU(), linear(hidden, dims))
