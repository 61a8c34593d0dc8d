import math

import pytest
import torch
from torch import nn

from einthoven.models.attention import (
    AttentionPool,
    SelfAttention,
    TransformerBlock,
    attention_maps,
    explicit_attention,
)
from einthoven.models.conv_attention import ConvAttention
from einthoven.models.vit1d import ViT1d


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


def test_transformer_block_keeps_its_input_in_the_sum():
    torch.manual_seed(0)
    block = TransformerBlock(8, heads=2, dropout=0.0)
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    tokens = torch.randn(2, 5, 8)
    assert torch.equal(block(tokens), tokens)


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_weights_are_those_of_the_output(rotary):
    torch.manual_seed(0)
    layer = SelfAttention(12, heads=3, rotary=rotary).double()
    tokens = torch.randn(2, 7, 12, dtype=torch.float64)
    weights = layer.weights(tokens)
    assert weights.shape == (2, 3, 7, 7)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 7, dtype=torch.float64))
    value = layer.qkv(tokens)[..., 24:].unflatten(2, (3, 4)).transpose(1, 2)
    expected = layer.out((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(tokens), expected, rtol=0, atol=1e-12)


def test_explicit_attention_has_second_derivatives():
    torch.manual_seed(0)
    layers = nn.Sequential(SelfAttention(4, 2), AttentionPool(4, 2)).double()
    nn.init.normal_(layers[1].query)
    tokens = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    fused = layers(tokens)
    with explicit_attention():
        torch.testing.assert_close(layers(tokens), fused, rtol=0, atol=1e-12)
        assert torch.autograd.gradgradcheck(layers, (tokens,))


def test_maps_are_taken_where_the_tokens_pass():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Identity(), TransformerBlock(8, 2), TransformerBlock(8, 2)).eval()
    tokens = torch.randn(1, 5, 8)
    maps = attention_maps(layers, tokens)
    assert list(maps) == ["block1", "block2"]
    second = layers[2].attention.weights(layers[2].norm_attention(layers[1](tokens)))
    assert torch.equal(maps["block2"], second)


@pytest.mark.parametrize(
    ("model", "tokens"),
    [(ConvAttention(8, 5, depth=2), 32), (ViT1d(8, 5, dim=16, heads=4, depth=2, samples=250), 10)],
)
def test_models_give_out_their_maps(model, tokens):
    maps = model.eval().attention_maps(torch.randn(3, 8, 250))
    assert [m.shape for m in maps.values()] == [(3, 4, tokens, tokens)] * 2
    for weights in maps.values():
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 4, tokens))
