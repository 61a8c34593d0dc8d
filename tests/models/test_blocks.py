import math

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from einthoven.models.blocks import (
    AttentionPool,
    ConcatPool,
    DropPath,
    ResidualBlock,
    SelfAttention,
    SinusoidalPositions,
    TransformerBlock,
    overlapping_windows,
    random_window,
    to_image,
    to_tokens,
)


def test_self_attention_is_softmax_of_scaled_products_in_float64():
    torch.manual_seed(0)
    layer = SelfAttention(12, heads=3).double()
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    query, key, value = layer.qkv(tokens).split(12, dim=-1)
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        scores = query[..., part] @ key[..., part].mT / math.sqrt(4)
        heads.append(torch.softmax(scores, dim=-1) @ value[..., part])
    expected = layer.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(layer(tokens), expected, rtol=0, atol=1e-12)


def test_self_attention_follows_a_permutation_of_the_tokens():
    torch.manual_seed(0)
    layer = SelfAttention(8, heads=2).double()
    tokens = torch.randn(1, 9, 8, dtype=torch.float64)
    order = torch.randperm(9)
    torch.testing.assert_close(layer(tokens[:, order]), layer(tokens)[:, order])


def test_attention_pool_is_softmax_of_scaled_products_in_float64():
    torch.manual_seed(0)
    pool = AttentionPool(12, heads=3).double()
    nn.init.normal_(pool.query)
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    key = pool.key(tokens)
    expected = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        weight = torch.softmax(key[..., part] @ pool.query[h, 0] / math.sqrt(4), dim=1)
        expected.append((weight[..., None] * tokens[..., part]).sum(dim=1))
    torch.testing.assert_close(pool(tokens), torch.cat(expected, dim=-1), rtol=0, atol=1e-12)


def test_attention_pool_starts_as_the_mean():
    tokens = torch.randn(3, 11, 8)
    torch.testing.assert_close(AttentionPool(8, heads=2)(tokens), tokens.mean(dim=1))


@pytest.mark.parametrize("layer", [SelfAttention, AttentionPool])
def test_heads_must_divide_the_features(layer):
    with pytest.raises(ValueError, match="5 heads do not divide 12 features"):
        layer(12, 5)


def test_positions_are_the_sines_and_cosines_of_the_paper():
    dim, length = 6, 50
    added = SinusoidalPositions(dim)(torch.zeros(1, length, dim))[0]
    for position in (0, 1, 17, 49):
        for i in range(dim // 2):
            angle = position / 10000 ** (2 * i / dim)
            assert added[position, i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert added[position, dim // 2 + i].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_positions_make_attention_see_order():
    torch.manual_seed(0)
    tokens = torch.randn(1, 9, 8)
    seeing = nn.Sequential(SinusoidalPositions(8), SelfAttention(8, 2))
    assert not torch.allclose(seeing(tokens.flip(1)), seeing(tokens).flip(1), atol=1e-3)


def test_drop_path_drops_whole_records_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath(0.25)
    out = layer(torch.ones(4000, 3, 5))
    per_record = out.flatten(1)
    assert (per_record == per_record[:, :1]).all()
    assert per_record[:, 0].unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert out.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(1 / 3 / 4000))
    assert torch.equal(layer.eval()(torch.ones(2, 3)), torch.ones(2, 3))


def test_transformer_block_keeps_its_input_in_the_sum():
    torch.manual_seed(0)
    block = TransformerBlock(8, heads=2, dropout=0.0)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    tokens = torch.randn(2, 5, 8)
    assert torch.equal(block(tokens), tokens)


@pytest.mark.parametrize(("samples", "length", "starts"), [(1000, 250, range(0, 751, 125)), (250, 250, [0])])
def test_overlapping_windows_lie_where_the_benchmark_puts_them(samples, length, starts):
    x = torch.randn(2, 3, samples)
    expected = torch.stack([x[:, :, s : s + length] for s in starts], dim=1)
    assert torch.equal(overlapping_windows(x, length), expected)


@pytest.mark.parametrize("samples", [251, 333, 1007, 4999])
def test_overlapping_windows_cover_the_record_in_steps_of_at_most_half(samples):
    ramp = torch.arange(float(samples)).expand(1, 1, -1)
    windows = overlapping_windows(ramp, 250)[0, :, 0]
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
