"""The U-Net: a value for each sample, gradients everywhere, and what a sample sees."""

from __future__ import annotations

import pytest
import torch

from einthoven.errors import UserError
from einthoven.models.unet1d import UNet1d


def small(channels: tuple[int, ...] = (4, 6, 8), norm: str = "batch") -> UNet1d:
    torch.manual_seed(0)
    return UNet1d(3, 2, channels=channels, kernel=3, norm=norm)


@pytest.mark.parametrize("samples", [1, 7, 120, 121, 123])
def test_the_output_is_as_long_as_the_signal(samples: int) -> None:
    assert small().eval()(torch.randn(2, 3, samples)).shape == (2, 2, samples)


def test_the_stages_are_the_direct_children_in_forward_order() -> None:
    model, order = small().eval(), []
    for stage, child in model.named_children():
        child.register_forward_hook(lambda *_, stage=stage: order.append(stage))
    model(torch.randn(1, 3, 32))
    assert order == ["down1", "down2", "down3", "up1", "up2", "head"] == [stage for stage, _ in model.named_children()]


def test_every_weight_has_a_gradient() -> None:
    model = small()
    torch.nn.functional.binary_cross_entropy_with_logits(
        model(torch.randn(4, 3, 64)), (torch.rand(4, 2, 64) < 0.3).float()
    ).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_gradient_is_that_of_finite_differences() -> None:
    model = UNet1d(1, 1, channels=(2, 2), kernel=3, activation="gelu", norm="layer").double()
    x = torch.randn(1, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,))


def test_an_output_sees_its_surroundings_and_nothing_that_is_far_away() -> None:
    # Two convolutions of 3 samples on each of 3 levels and back again, with steps of 1, 2 and 4 samples.
    reach = 2 * (1 + 1) * 2 + 2 * (2 + 2) + 2 * 4 + 4
    model = small(norm="none").eval()
    x = torch.randn(1, 3, 256, requires_grad=True)
    model(x)[0, 0, 128].backward()
    assert x.grad is not None
    touched = x.grad.abs().sum(dim=(0, 1)).nonzero()[:, 0]
    assert 8 < 128 - int(touched.min()) <= reach
    assert 8 < int(touched.max()) - 128 <= reach


def test_a_shift_by_the_coarsest_step_shifts_the_output() -> None:
    model = small().eval()
    x = torch.randn(1, 3, 256)
    shifted = model(x.roll(4, dims=2)).roll(-4, dims=2)
    torch.testing.assert_close(shifted[..., 64:192], model(x)[..., 64:192], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"kernel": 4}, r"model\.kernel=4: expected an odd"),
        ({"channels": [8]}, r"model\.channels=\[8\]: expected the channels of two levels"),
        ({"norm": "instance"}, "norm=instance"),
    ],
)
def test_options_that_make_no_network_are_refused(options: dict[str, object], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        UNet1d(3, 2, **options)  # type: ignore[arg-type]
