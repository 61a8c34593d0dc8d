"""The encoder of each network: its embedding is what the head reads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from einthoven.errors import UserError
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.encoder import embed, embed_tokens, token_starts, without_head
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.inception1d import Inception1d
from einthoven.models.logistic import Logistic
from einthoven.models.lstm import LSTM
from einthoven.models.mlp import MLP
from einthoven.models.s4d import S4D
from einthoven.models.vit1d import ViT1d
from einthoven.models.wang import fcn_wang, resnet1d_wang
from einthoven.models.xresnet1d import XResNet1d

SAMPLES = 400
NETWORKS = {
    "conv_attention": lambda: ConvAttention(3, 2, channels=(8, 16), heads=2, window=1.0),
    "xresnet1d": lambda: XResNet1d(3, 2, bottleneck=False, blocks=(1, 1), stem=(4, 4, 8), width=8, hidden=8),
    "inception1d": lambda: Inception1d(3, 2, depth=3, filters=4, bottleneck=4, hidden=8),
    "resnet1d_wang": lambda: resnet1d_wang(3, 2, width=8, hidden=8),
    "fcn_wang": lambda: fcn_wang(3, 2, channels=(8, 8, 8), hidden=8),
    "s4d": lambda: S4D(3, 2, width=8, depth=1),
    "vit1d": lambda: ViT1d(3, 2, samples=SAMPLES, dim=8, depth=1, heads=2),
    "lstm": lambda: LSTM(3, 2, bidirectional=True, hidden=4, layers=1, head_hidden=8),
}


def classifier(network: nn.Module) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Frontend(3), network).eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_maps_the_embedding_to_the_logits(name: str) -> None:
    model = classifier(NETWORKS[name]())
    x = torch.randn(4, 3, SAMPLES)
    logits = model.network.head(embed(model, x))
    # The head is affine in evaluation where it is one linear layer, so that the mean over windows may come first.
    torch.testing.assert_close(logits, model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_tokens_run_along_the_time(name: str) -> None:
    model = classifier(NETWORKS[name]())
    tokens = embed_tokens(model, torch.randn(2, 3, SAMPLES))
    assert tokens.ndim == 3
    assert tokens.shape[0] == 2
    assert tokens.shape[1] > 1


def test_the_mean_of_tokens_is_the_embedding_where_the_network_pools_so() -> None:
    model = classifier(NETWORKS["s4d"]())
    x = torch.randn(2, 3, SAMPLES)
    torch.testing.assert_close(embed_tokens(model, x).mean(dim=1), embed(model, x))


@pytest.mark.parametrize(
    ("name", "distance"),
    [
        ("xresnet1d", 8),
        ("inception1d", 1),
        ("resnet1d_wang", 4),
        ("fcn_wang", 1),
        ("s4d", 1),
        ("vit1d", 25),
        ("lstm", 1),
    ],
)
@pytest.mark.parametrize("samples", [SAMPLES, SAMPLES - 3])
def test_tokens_are_as_far_apart_as_the_strides_say(name: str, distance: int, samples: int) -> None:
    model = classifier(NETWORKS[name]())
    count = embed_tokens(model, torch.randn(1, 3, samples)).shape[1]
    assert token_starts(model, samples, count) == list(range(0, samples, distance))


def test_tokens_begin_anew_in_each_window_of_the_network() -> None:
    model = classifier(NETWORKS["conv_attention"]())
    count = embed_tokens(model, torch.randn(1, 3, SAMPLES)).shape[1]
    starts = token_starts(model, SAMPLES, count)
    assert len(starts) == count
    # Windows of 100 samples, half a window apart or less, and a token every 4 samples.
    assert starts[:25] == list(range(0, 100, 4))
    assert starts[25] <= 50 and starts[-1] == 396


def test_the_encoder_shares_its_weights_and_leaves_the_network_as_it_is() -> None:
    network = NETWORKS["s4d"]()
    encoder = without_head(network)
    assert encoder.get_parameter("stem.weight") is network.get_parameter("stem.weight")
    assert isinstance(network.head, nn.Linear)


def test_a_network_without_head_or_tokens_is_refused() -> None:
    with pytest.raises(UserError, match="Logistic: its stages are linear; expected an encoder"):
        without_head(Logistic(3, 2, samples=SAMPLES))
    mlp = MLP(3, 2, samples=SAMPLES, width=8)
    with pytest.raises(UserError, match="MLP: has one embedding per record and no tokens"):
        embed_tokens(classifier(mlp), torch.randn(2, 3, SAMPLES))
