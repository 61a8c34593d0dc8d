import pytest
import torch

from einthoven.errors import UserError
from einthoven.models.blocks import to_image
from einthoven.models.norms import NORMS, TOKEN_NORMS, check_norm, feature_norm, image_norm


def moments(x, dims):
    return x.mean(dim=dims), x.var(dim=dims, unbiased=False)


def test_running_statistics_become_those_of_the_population():
    torch.manual_seed(0)
    norm = image_norm("batch", 3)
    norm.momentum = None  # the plain average over the batches
    mean, std = torch.tensor([0.5, -2.0, 3.0]), torch.tensor([1.0, 0.1, 4.0])
    for _ in range(100):
        norm(to_image(mean[:, None] + std[:, None] * torch.randn(32, 3, 50)))
    error = 6 * std / (100 * 32 * 50) ** 0.5  # six standard errors
    assert ((norm.running_mean - mean).abs() < error).all()
    torch.testing.assert_close(norm.running_var, std**2, rtol=0.03, atol=0)


def test_training_uses_the_batch_and_evaluation_the_running_statistics():
    torch.manual_seed(0)
    norm = image_norm("batch", 4)
    x = to_image(5 + 3 * torch.randn(16, 4, 40))
    mean, variance = moments(norm(x), (0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(variance, torch.ones(4), rtol=1e-3, atol=0)
    alone = norm(x[:1])  # depends on its neighbours ...
    assert not torch.allclose(alone, norm(x)[:1], atol=1e-3)
    norm.eval()
    torch.testing.assert_close(norm(x[:1]), norm(x)[:1])  # ... and not in evaluation
    expected = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("name", ["layer", "group", "rms", "none"])
@pytest.mark.parametrize("build", [image_norm, feature_norm])
def test_the_others_look_at_one_record_alone_and_are_the_same_in_evaluation(name, build):
    torch.manual_seed(0)
    norm = build(name, 32)
    x = to_image(5 + torch.randn(6, 32, 40)) if build is image_norm else 5 + torch.randn(6, 32)
    trained = norm(x)
    torch.testing.assert_close(norm(x[:1]), trained[:1])
    assert torch.equal(norm.eval()(x), trained)
    assert torch.allclose(trained, x) == (name == "none")


def test_each_norm_brings_what_it_says_to_zero_and_one():
    torch.manual_seed(0)
    x = to_image(5 + 3 * torch.randn(4, 32, 40))
    layer, rms, group = (image_norm(name, 32)(x) for name in ("layer", "rms", "group"))
    mean, variance = moments(layer, (1,))
    torch.testing.assert_close((mean, variance), (torch.zeros(4, 1, 40), torch.ones(4, 1, 40)), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(rms.square().mean(dim=1), torch.ones(4, 1, 40))
    assert (rms > 0).float().mean() > 0.9  # no mean is taken off
    mean, variance = moments(group.unflatten(1, (2, 16)), (2, 3, 4))
    torch.testing.assert_close((mean, variance), (torch.zeros(4, 2), torch.ones(4, 2)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 8, 24, 32, 40, 100, 256])
def test_groups_divide_the_channels_and_are_never_small(channels):
    group = image_norm("group", channels)
    assert channels % group.num_groups == 0
    assert channels // group.num_groups >= min(16, channels)


def test_unknown_names_are_refused():
    for build in (image_norm, feature_norm):
        with pytest.raises(UserError, match="norm=instance: expected one of batch, layer, group, rms, none"):
            build("instance", 4)
    with pytest.raises(UserError, match="token_norm=batch: expected one of layer, rms, none"):
        check_norm("batch", TOKEN_NORMS, "token_norm")
    assert set(TOKEN_NORMS) < set(NORMS)
