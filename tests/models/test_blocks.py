import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from einthoven.models.blocks import (
    ConcatPool,
    ConvNormAct,
    DropPath,
    ResidualBlock,
    overlapping_windows,
    random_window,
    to_image,
    to_tokens,
)
from einthoven.models.norms import NORMS


def test_drop_path_drops_whole_records_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    out = layer(torch.ones(4000, 3, 5))
    per_record = out.flatten(1)
    assert (per_record == per_record[:, :1]).all()
    assert per_record[:, 0].unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert out.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(1 / 3 / 4000))
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize(("samples", "length", "starts"), [(1000, 250, range(0, 751, 125)), (250, 250, [0])])
def test_overlapping_windows_lie_where_the_benchmark_puts_them(samples, length, starts):
    x = torch.randn(2, samples, 3)
    expected = torch.stack([x[:, s : s + length] for s in starts], dim=1)
    assert torch.equal(overlapping_windows(x, length), expected)


@pytest.mark.parametrize("samples", [251, 333, 1007, 4999])
def test_overlapping_windows_cover_the_record_in_steps_of_at_most_half(samples):
    ramp = torch.arange(float(samples)).view(1, -1, 1)
    windows = overlapping_windows(ramp, 250)[0, :, :, 0]
    assert windows[0, 0] == 0 and windows[-1, -1] == samples - 1
    assert windows[:, 0].diff().max() <= 125
    assert torch.equal(windows - windows[:, :1], torch.arange(250.0).expand_as(windows))


def test_random_window_starts_anywhere_and_in_each_record_elsewhere():
    torch.manual_seed(0)
    ramp = torch.arange(60.0).expand(2000, 2, -1)
    windows = random_window(ramp, 50)
    start = windows[:, 0, 0]
    assert torch.equal(windows, (start[:, None, None] + torch.arange(50.0)).expand_as(windows))
    counts = torch.bincount(start.long(), minlength=11)
    assert len(counts) == 11 and stats.chisquare(counts).pvalue > 1e-3


def test_signal_becomes_an_image_of_height_one_and_then_tokens():
    signal = torch.randn(2, 3, 50)
    image = to_image(signal)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(image[:, :, 0], signal)
    assert torch.equal(to_tokens(image), signal.mT)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_are_those_of_one_dimension(stride):
    torch.manual_seed(0)
    block = ResidualBlock(3, 6, kernel=5, stride=stride).double().eval()
    nn.init.ones_(block.branch[1].norm.weight)
    x = torch.randn(2, 3, 51, dtype=torch.float64)

    def unit(x, unit, stride):
        weight = unit.conv.weight[:, :, 0]
        return F.conv1d(x, weight, None, stride, weight.shape[2] // 2) / math.sqrt(1 + 1e-5)

    branch = unit(unit(x, block.branch[0], stride).relu(), block.branch[1], 1)
    around = F.avg_pool1d(x, stride, ceil_mode=True) if stride > 1 else x
    expected = (unit(around, block.shortcut[-1], 1) + branch).relu()
    torch.testing.assert_close(block(to_image(x))[:, :, 0], expected)


def test_concat_pool_is_maximum_then_mean():
    x = torch.tensor([[[[1.0, 2.0, 6.0]], [[-1.0, -3.0, -5.0]]]])
    assert ConcatPool()(x).tolist() == [[6.0, -1.0, 3.0, -3.0]]


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (5, 2), (8, 1), (8, 2), (1, 1)])
def test_convolution_is_a_sliding_dot_product(kernel, stride):
    torch.manual_seed(0)
    layer = ConvNormAct(3, 4, kernel, stride, activation=None, norm="none").double()
    nn.init.normal_(layer.conv.bias)
    x = torch.randn(2, 3, 23, dtype=torch.float64)
    out = layer(to_image(x))[:, :, 0]
    assert out.shape[2] == math.ceil(23 / stride)
    before = (kernel - 1) // 2
    padded = torch.cat([torch.zeros(2, 3, before).double(), x, torch.zeros(2, 3, kernel).double()], dim=2)
    weight = layer.conv.weight[:, :, 0]
    for t in range(out.shape[2]):
        window = padded[:, :, t * stride : t * stride + kernel]
        expected = torch.einsum("bck,ock->bo", window, weight) + layer.conv.bias
        torch.testing.assert_close(out[:, :, t], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["batch", "layer", "rms", "none"])
def test_convolutions_move_with_the_signal(norm):
    torch.manual_seed(0)
    layers = nn.Sequential(ConvNormAct(3, 8, 7, norm=norm), ResidualBlock(8, 8, 5, norm=norm)).double().eval()
    for parameter in layers.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    wave = F.pad(torch.randn(1, 3, 20, dtype=torch.float64), (40, 40))
    still, moved = layers(to_image(wave)), layers(to_image(wave.roll(11, dims=2)))
    torch.testing.assert_close(moved[..., 20:-20], still.roll(11, dims=3)[..., 20:-20], rtol=0, atol=1e-12)
    assert not torch.allclose(moved, still)


@pytest.mark.parametrize("norm", NORMS)
def test_a_residual_block_starts_as_its_shortcut(norm):
    torch.manual_seed(0)
    x = to_image(torch.randn(2, 16, 30))
    torch.testing.assert_close(ResidualBlock(16, 16, 5, norm=norm)(x), x.relu())
