import pytest
import torch

from einthoven.diagnostics.gradients import gradient_norms
from einthoven.diagnostics.stages import stages
from einthoven.errors import UserError
from einthoven.models.mlp import MLP, DenseLayer


def test_a_dense_layer_is_its_dot_products():
    torch.manual_seed(0)
    layer = DenseLayer(6, 4, activation="tanh", norm="none", dropout=0.0, skip=False).double()
    torch.nn.init.normal_(layer.linear.bias)
    x = torch.randn(3, 6, dtype=torch.float64)
    for record in range(3):
        for unit in range(4):
            total = sum(w * v for w, v in zip(layer.linear.weight[unit], x[record], strict=True))
            expected = torch.tanh(total + layer.linear.bias[unit])
            torch.testing.assert_close(layer(x)[record, unit], expected, rtol=0, atol=1e-13)


def test_shapes_follow_the_rule():
    model = MLP(12, 5, samples=50, width=32, depth=3, norm="none")
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert shapes == [(32, 600), (32, 32), (32, 32), (5, 32)]
    assert [name for name, _ in model.named_children()] == ["layer1", "layer2", "layer3", "head"]


def test_skip_adds_the_input_of_all_but_the_first_layer():
    torch.manual_seed(0)
    model = MLP(2, 3, samples=10, width=8, depth=2, skip=True, norm="none", dropout=0.0)
    x = torch.randn(4, 2, 10)
    first = model.layer1.linear(x.flatten(1)).relu()
    second = first + model.layer2.linear(first).relu()
    torch.testing.assert_close(model(x), model.head(second))


@pytest.mark.parametrize(
    ("activation", "skip", "low", "high"), [("sigmoid", False, 0.0, 1e-6), ("relu", True, 0.1, 10.0)]
)
def test_gradients_vanish_through_twenty_sigmoids_and_not_past_skips(activation, skip, low, high):
    torch.manual_seed(0)
    model = MLP(12, 5, samples=50, width=64, depth=20, activation=activation, skip=skip, norm="none", dropout=0.0)
    x, y = torch.randn(32, 12, 50), (torch.rand(32, 5) < 0.3).float()
    torch.nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
    norms = gradient_norms(stages(model))
    assert low <= norms["watch/grad/norm/layer1"] / norms["watch/grad/norm/layer20"] <= high


def test_what_it_cannot_do_is_refused():
    with pytest.raises(UserError, match="model=mlp was built for windows of 50 samples and got 60"):
        MLP(12, 5, samples=50)(torch.randn(2, 12, 60))
    with pytest.raises(UserError, match=r"model\.depth=0"):
        MLP(12, 5, samples=50, depth=0)
