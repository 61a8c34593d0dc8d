"""Masked reconstruction: what is hidden, what the loss looks at, and what R² says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from einthoven.contracts import Batch
from einthoven.errors import UserError
from einthoven.losses.contrastive import nt_xent
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.frontend import Classifier, Frontend
from einthoven.models.xresnet1d import XResNet1d
from einthoven.tasks.masked import Masked


def task(**options: Any) -> Masked:
    return Masked(**{"share": 0.5, "hide": "patches", "patch": 0.1, "fs": 100.0, "hidden": 8, **options})


def batch(n: int = 4, samples: int = 105) -> Batch:
    x = torch.randn(n, 12, samples, generator=torch.Generator().manual_seed(1))
    return Batch(x, torch.zeros(n, 0), torch.arange(n), torch.ones(n, dtype=torch.bool))


class Fixed(nn.Module):
    """A model whose reconstruction is a parameter, and that remembers what it was given."""

    def __init__(self, reconstruction: Tensor) -> None:
        super().__init__()
        self.frontend = Frontend(12)
        self.frontend.mean.fill_(0.5)
        self.frontend.std.fill_(2.0)
        self.reconstruction = nn.Parameter(reconstruction)
        self.given = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        self.given = x
        return self.reconstruction


@pytest.mark.parametrize("hide", ["patches", "times", "leads"])
def test_a_share_of_the_patches_is_hidden_from_the_network(hide: str) -> None:
    records = batch()
    model = Fixed(torch.zeros(4, 12, 105))
    task(hide=hide).loss(model, records)
    is_hidden = (model.given == 0) & (records.x != 0)
    torch.testing.assert_close(torch.where(is_hidden, records.x, model.given), records.x)
    # The five samples after the last patch are never hidden. Patches are hidden as a whole.
    assert not is_hidden[..., 100:].any()
    patches = is_hidden[..., :100].view(4, 12, 10, 10)
    assert torch.equal(patches.all(dim=3), patches.any(dim=3))
    assert (patches[..., 0].sum(dim=(1, 2)) == 60).all()
    if hide == "times":
        assert torch.equal(patches.all(dim=1), patches.any(dim=1))
    if hide == "leads":
        assert torch.equal(patches.all(dim=2), patches.any(dim=2))
    assert len(torch.unique(patches[..., 0].flatten(1), dim=0)) == 4, "each record hides other patches"


def test_something_is_hidden_and_something_stays() -> None:
    for share, hidden_leads in ((0.01, 1), (0.99, 11)):
        assert task(hide="leads", share=share).draw_patches(batch().x).shape == (4, 10 * hidden_leads)


def test_the_loss_is_the_squared_error_of_the_hidden_samples_alone() -> None:
    records = batch()
    model = Fixed(torch.randn(4, 12, 105, generator=torch.Generator().manual_seed(2)))
    loss, _ = task().loss(model, records)
    loss.backward()  # type: ignore[no-untyped-call]
    is_hidden = ((model.given == 0) & (records.x != 0)).numpy()
    error = np.square(model.reconstruction.detach().numpy() - (records.x.numpy() - 0.5) / 2)
    np.testing.assert_allclose(float(loss.detach()), error[is_hidden].mean(), rtol=1e-5)
    assert model.reconstruction.grad is not None
    np.testing.assert_array_equal(model.reconstruction.grad.numpy() != 0, is_hidden)


@pytest.mark.parametrize(("factor", "expected"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.75)])
def test_r2_is_0_for_a_flat_line_and_1_for_the_signal(factor: float, expected: float) -> None:
    records = batch()
    model = Fixed(factor * (records.x - 0.5) / 2)
    scores = task().scores(model, records).detach().double().numpy()
    assert task().metrics(np.zeros((4, 0)), scores, ())["r2"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("network", "steps"),
    [
        (ConvAttention(12, 1, window=1.0, channels=(8, 8), heads=2, dropout=0.0, drop_path=0.0), 100),
        (XResNet1d(12, 1, bottleneck=False, blocks=(1, 1), stem=(4, 4, 8), width=8), 250),
    ],
    ids=["conv_attention", "xresnet"],
)
def test_gradients_reach_the_encoder_up_to_the_tokens_and_the_rest_is_frozen(network: nn.Module, steps: int) -> None:
    names = [name for name, _ in network.named_parameters() if not name.startswith("head")]
    model = task().build_model(Classifier(Frontend(12), network), steps)
    assert model(batch(samples=steps).x).shape == (4, 12, steps)
    assert not any(p.requires_grad for p in model.network.get_submodule("head").parameters())
    loss, _ = task().loss(model, batch(samples=steps))
    loss.backward()  # type: ignore[no-untyped-call]
    trained = {name for name, p in model.network.named_parameters() if p.requires_grad}
    assert trained == {name for name in names if not name.startswith("pool")}
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_a_token_is_decoded_at_its_place() -> None:
    """A change of the first samples changes the reconstruction near them alone."""
    network = XResNet1d(12, 1, bottleneck=False, blocks=(1,), stem=(4, 4, 8), width=8)
    torch.manual_seed(0)
    model = task().build_model(Classifier(Frontend(12), network), 400).eval()
    x = batch(1, 400).x
    changed = x.clone()
    changed[..., :4] += 1.0
    difference = (model(changed) - model(x)).abs().amax(dim=(0, 1)).detach()
    assert difference[:8].max() > 0 and difference[80:].max() == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"share": 1.0}, "task.share=1.0: expected a share between 0 and 1"),
        ({"hide": "beats"}, "task.hide=beats: expected patches, times, leads"),
        ({"patch": 0.001}, r"task.patch=0.001: expected seconds, at least one sample \(0.01 s\)"),
        ({"hidden": 0}, "task.hidden=0"),
        ({"objective": nt_xent}, "loss=nt_xent: it is a loss of two views"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        task(**options)


def test_what_cannot_be_hidden_is_refused() -> None:
    def classifier(leads: int) -> Classifier:
        return Classifier(Frontend(leads), XResNet1d(leads, 1, bottleneck=False, blocks=(1,), width=8))

    with pytest.raises(UserError, match=r"task.patch=3.0: a window of 2.5 s has no two patches"):
        task(patch=3.0).build_model(classifier(12), 250)
    with pytest.raises(UserError, match=r"task.hide=leads: these records have one lead"):
        task(hide="leads").build_model(classifier(1), 250)
    # Tokens of overlapping windows.
    network = ConvAttention(12, 1, window=1.0, channels=(8, 8), heads=2)
    with pytest.raises(
        UserError, match=r"trainer.window: ConvAttention reads a window of 250 samples in 5 overlapping pieces"
    ):
        task().build_model(Classifier(Frontend(12), network), 250)
