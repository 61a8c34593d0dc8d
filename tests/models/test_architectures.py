import pytest
import torch
import torch.nn.functional as F

from einthoven.errors import UserError
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.logistic import Logistic
from einthoven.models.xresnet1d import xresnet1d101


def logistic(in_channels: int, num_classes: int) -> Logistic:
    return Logistic(in_channels, num_classes, samples=250)


BUILDERS = {"conv_attention": ConvAttention, "xresnet1d101": xresnet1d101, "logistic": logistic}


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
@pytest.mark.parametrize("channels", [8, 12])
def test_forward_gives_logits(build, channels):
    torch.manual_seed(0)
    logits = build(channels, 5).eval()(torch.randn(3, channels, 250))
    assert logits.shape == (3, 5)
    assert logits.isfinite().all()


@pytest.mark.parametrize("build", [ConvAttention, xresnet1d101])
@pytest.mark.parametrize("samples", [100, 257, 1000, 5000])
def test_any_length_goes_through(build, samples):
    assert build(8, 4).eval()(torch.randn(1, 8, samples)).shape == (1, 4)


@pytest.mark.parametrize(("classes", "expected"), [(5, 1_872_261), (71, 1_880_775)])
def test_xresnet1d101_has_the_parameters_of_the_benchmark(classes, expected):
    # Counted by hand from the published layer sizes: convolutions without bias, a norm after each.
    def unit(inside: int, outside: int, kernel: int) -> int:
        return inside * outside * kernel + 2 * outside

    def bottleneck(before: int) -> int:
        body = unit(before, 64, 1) + unit(64, 64, 5) + unit(64, 256, 1)
        return body + (unit(before, 256, 1) if before != 256 else 0)

    stem = unit(12, 32, 5) + unit(32, 32, 5) + unit(32, 64, 5)
    trunk = bottleneck(64) + (3 + 4 + 23 + 3 - 1) * bottleneck(256)
    head = 2 * 512 + (512 * 128 + 128) + 2 * 128 + (128 * classes + classes)
    assert stem + trunk + head == expected
    assert count(xresnet1d101(12, classes)) == expected


def test_logistic_is_linear_and_starts_at_even_odds():
    model = logistic(12, 5)
    x = torch.randn(4, 12, 250)
    assert count(model) == 12 * 250 * 5 + 5
    assert torch.equal(model(x).sigmoid(), torch.full((4, 5), 0.5))
    torch.nn.init.normal_(model.linear.weight)
    torch.testing.assert_close(model(2 * x), 2 * model(x), rtol=1e-4, atol=1e-4)


def test_logistic_refuses_another_length():
    with pytest.raises(UserError, match="250 samples and got 300"):
        logistic(12, 5)(torch.randn(1, 12, 300))


@pytest.mark.parametrize(
    ("build", "stages"),
    [
        (ConvAttention, ["stem", "conv", "attention", "pool", "head"]),
        (xresnet1d101, ["stem", "stage1", "stage2", "stage3", "stage4", "pool", "head"]),
        (logistic, ["linear"]),
    ],
)
def test_direct_children_are_the_stages_in_forward_order(build, stages):
    model = build(8, 5).eval()
    seen = []
    for name, child in model.named_children():
        child.register_forward_hook(lambda *_, name=name: seen.append(name))
    model(torch.randn(1, 8, 250))
    assert [name for name, _ in model.named_children()] == stages
    assert seen == stages


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_seed_decides_the_weights(build):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(torch.nn.utils.parameters_to_vector(build(8, 5).parameters()))
    assert torch.equal(models[0], models[1])
    if build is not logistic:
        assert not torch.equal(models[0], models[2])


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_evaluation_does_not_look_at_the_neighbours_in_the_batch(build):
    torch.manual_seed(0)
    model = build(8, 5).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    x = torch.randn(6, 8, 250)
    together = model(x)
    torch.testing.assert_close(together.flip(0), model(x.flip(0)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together[2:3], model(x[2:3]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [ConvAttention, xresnet1d101])
def test_starts_with_small_logits_and_gradients_everywhere(build):
    torch.manual_seed(0)
    model = build(12, 5)
    x, y = torch.randn(16, 12, 250), (torch.rand(16, 5) < 0.3).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    logits = model(x)
    assert logits.std() < 3
    for _ in range(2):  # the second step also reaches what lies behind weights that start at zero
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_conv_attention_trains_on_windows_and_evaluates_their_mean():
    torch.manual_seed(0)
    model = ConvAttention(8, 5, window=2.5)
    x = torch.randn(3, 8, 600)
    sizes = []
    model.stem.register_forward_hook(lambda _module, inputs, _output: sizes.append(tuple(inputs[0].shape)))
    model(x)
    logits = model.eval()(x)
    assert sizes == [(3, 8, 1, 250), (12, 8, 1, 250)]
    mean = torch.stack([model.read(x[:, :, s : s + 250]) for s in (0, 116, 233, 350)]).mean(dim=0)
    torch.testing.assert_close(logits, mean, rtol=1e-4, atol=1e-5)


def test_conv_attention_without_window_reads_the_record_as_a_whole():
    torch.manual_seed(0)
    model = ConvAttention(8, 5, window=None).eval()
    x = torch.randn(3, 8, 600)
    assert torch.equal(model(x), model.read(x))


@pytest.mark.parametrize(("build", "samples"), [(ConvAttention, 250), (ConvAttention, 600), (logistic, 250)])
def test_exports_with_a_dynamic_batch(build, samples):
    torch.manual_seed(0)
    model = build(12, 5).eval()
    exported = torch.export.export(
        model, (torch.randn(2, 12, samples),), dynamic_shapes={"x": {0: torch.export.Dim("batch")}}
    )
    for batch in (1, 7):
        x = torch.randn(batch, 12, samples)
        torch.testing.assert_close(exported.module()(x), model(x), rtol=1e-4, atol=1e-5)
