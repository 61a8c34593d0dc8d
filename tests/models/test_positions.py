import math

import pytest
import torch
from torch import nn

from einthoven.errors import UserError
from einthoven.models.attention import SelfAttention
from einthoven.models.positions import (
    POSITIONS,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    added_positions,
    position_similarity,
)
from einthoven.models.vit1d import ViT1d


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


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    turn = RotaryPositions(8).double()
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).expand(2, 1, 1, 30, 8)
    scores = (turn(query) @ turn(key).mT)[0, 0]
    for distance in range(-29, 30):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-6)
    assert scores[0].std() > 0.1


def test_rotary_positions_are_a_multiplication_by_unit_complex_numbers():
    torch.manual_seed(0)
    x = torch.randn(1, 2, 9, 6)
    pairs = torch.complex(x[..., :3], x[..., 3:])
    angle = torch.arange(9.0)[:, None] * 10000.0 ** (-torch.arange(0, 6, 2) / 6)
    turned = pairs * torch.polar(torch.ones_like(angle), angle)
    torch.testing.assert_close(RotaryPositions(6)(x), torch.cat([turned.real, turned.imag], dim=-1))


def test_rotary_positions_need_pairs():
    with pytest.raises(UserError, match="even number of features, found 5"):
        RotaryPositions(5)


def test_learned_positions_are_a_table_that_stretches():
    layer = LearnedPositions(4, 10)
    tokens = torch.zeros(2, 10, 4)
    assert torch.equal(layer(tokens), layer.table.expand(2, -1, -1))
    longer = layer(torch.zeros(1, 20, 4))[0]
    torch.testing.assert_close(longer[1:-1:2], 0.75 * layer.table[:-1] + 0.25 * layer.table[1:])


@pytest.mark.parametrize("positions", POSITIONS)
def test_only_without_positions_is_the_order_of_the_patches_not_seen(positions):
    torch.manual_seed(0)
    model = ViT1d(3, 4, samples=80, patch=10, dim=16, heads=2, depth=2, positions=positions).double().eval()
    x = torch.randn(2, 3, 80, dtype=torch.float64)
    shuffled = x.unflatten(2, (8, 10))[:, :, torch.randperm(8)].flatten(2)
    assert torch.allclose(model(shuffled), model(x), rtol=0, atol=1e-9) == (positions == "none")


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match="positions=sine: expected one of sinusoidal, learned, rotary, none"):
        added_positions("sine", 8, 10)


@pytest.mark.parametrize(("kind", "pairs"), [("sinusoidal", 8), ("rotary", 4)])
@pytest.mark.parametrize("tokens", [1, 7, 40])
def test_the_similarity_of_fixed_positions_is_the_mean_cosine_of_their_angles(kind, pairs, tokens):
    model = ViT1d(12, 2, samples=1000, patch=50, dim=16, depth=1, heads=2, positions=kind)
    similarity = position_similarity(model, tokens)
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    frequencies = 10000.0 ** (-torch.arange(pairs) / pairs)
    expected = torch.cos(distance[..., None] * frequencies).mean(dim=-1)
    torch.testing.assert_close(similarity, expected, atol=1e-5, rtol=0)


def test_the_similarity_of_learned_positions_and_of_none():
    model = ViT1d(12, 2, samples=1000, patch=50, dim=16, depth=1, heads=2, positions="learned")
    (table,) = [module.table for module in model.modules() if isinstance(module, LearnedPositions)]
    expected = torch.nn.functional.cosine_similarity(table[:, None], table[None], dim=-1)
    torch.testing.assert_close(position_similarity(model, len(table)), expected, atol=1e-5, rtol=0)
    model = ViT1d(12, 2, samples=1000, patch=50, dim=16, depth=1, heads=2, positions="none")
    torch.testing.assert_close(position_similarity(model, 5), torch.ones(5, 5))
