import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from einthoven.models import convolution
from einthoven.models.blocks import ConvNormAct, to_image
from einthoven.models.convolution import TimeConvolution, weight_gradient
from einthoven.models.wang import resnet1d_wang


@pytest.fixture
def without_avx512(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(convolution, "FEWEST_CHANNELS", 2)


SHAPES = [(23, 5, 1, 2), (23, 5, 2, 2), (24, 8, 2, 0), (24, 3, 3, 1), (4, 9, 1, 4), (3, 7, 2, 3), (1, 5, 1, 2)]


@pytest.mark.parametrize(("steps", "kernel", "stride", "padding"), SHAPES)
def test_weight_gradient_is_that_of_torch(steps, kernel, stride, padding):
    torch.manual_seed(0)
    image = to_image(torch.randn(3, 4, steps, dtype=torch.float64))
    weight = torch.randn(5, 4, 1, kernel, dtype=torch.float64, requires_grad=True)
    out = F.conv2d(image, weight, None, (1, stride), (0, padding))
    gradient = torch.randn_like(out)
    (expected,) = torch.autograd.grad(out, weight, gradient)
    torch.testing.assert_close(weight_gradient(image, gradient, kernel, stride, padding), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_first_and_second_derivatives_of_the_convolution(without_avx512, bias):
    torch.manual_seed(0)
    layer = TimeConvolution(2, 3, (1, 3), (1, 2), (0, 1), bias=bias).double()
    signal = torch.randn(2, 2, 5, dtype=torch.float64, requires_grad=True)
    assert "_Convolve" in layer(to_image(signal)).grad_fn.name()

    def outputs(signal, *parameters):
        names = [name for name, _ in layer.named_parameters()]
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (to_image(signal),))

    inputs = (signal, *layer.parameters())
    assert torch.autograd.gradcheck(outputs, inputs)
    assert torch.autograd.gradgradcheck(outputs, inputs)


def test_a_training_step_is_the_same_with_and_without_products(without_avx512, monkeypatch):
    torch.manual_seed(0)
    model = resnet1d_wang(12, 5, width=16, dropouts=(0.0, 0.0))
    other = copy.deepcopy(model)
    x = torch.randn(4, 12, 100)
    model(x).square().mean().backward()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    other(x).square().mean().backward()
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        scale = float(q.grad.norm()) + 1e-6
        assert float((p.grad - q.grad).norm()) < 1e-4 * scale, name


def test_evaluation_bf16_and_frozen_weights_use_the_convolution_of_torch(without_avx512):
    image = to_image(torch.randn(2, 4, 20))
    layer = ConvNormAct(4, 4, 5).conv
    assert "_Convolve" in layer(image).grad_fn.name()
    with torch.autocast("cpu", torch.bfloat16):
        assert "_Convolve" not in layer(image).grad_fn.name()
    assert "_Convolve" not in layer.eval()(image).grad_fn.name()
    layer.train().requires_grad_(False)
    assert layer(image).grad_fn is None


def test_a_processor_with_avx512_uses_the_convolution_of_torch(without_avx512, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    layer = TimeConvolution(4, 4, (1, 5), padding=(0, 2))
    assert "_Convolve" not in layer(to_image(torch.randn(2, 4, 20))).grad_fn.name()
    assert isinstance(layer, nn.Conv2d)
