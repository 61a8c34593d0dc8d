"""The convolution along time of an image of height one, with the fastest weight gradient of the processor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

FEWEST_CHANNELS = 128
"""Below so many input or output channels, matrix products for each sample of the kernel are not faster."""


class TimeConvolution(nn.Conv2d):
    """A convolution ``(1, kernel)`` of images ``[B, C, 1, T]``: ``nn.Conv2d`` with another way to compute a gradient.

    Channels last is the fastest layout of a training step, with one exception. On processors without AVX-512, oneDNN
    computes the weight gradient in this layout at about half of the speed of a matrix product. There, training computes
    it as one matrix product for each sample of the kernel. The gradients are equal up to rounding, and the weights have
    the same names and shapes. The choice depends on the processor and the shape of the convolution only.
    ``bench/bench_convolution.py`` measures both ways.
    """

    def forward(self, image: Tensor) -> Tensor:
        """Map ``[B, C, 1, T]`` to ``[B, O, 1, T']``."""
        if not self._uses_products(image):
            return super().forward(image)
        return _Convolve.apply(image, self.weight, self.bias, self.stride[1], self.padding[1])  # type: ignore[no-untyped-call]

    def _uses_products(self, image: Tensor) -> bool:
        """Return whether the weight gradient is computed by matrix products."""
        if not self.training or not torch.is_grad_enabled() or not self.weight.requires_grad:
            return False
        if image.device.type != "cpu" or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return False
        is_wide = min(self.in_channels, self.out_channels) >= FEWEST_CHANNELS and self.kernel_size[1] > 1
        return is_wide and torch.backends.cpu.get_cpu_capability() == "AVX2"


class _Convolve(torch.autograd.Function):
    """The convolution of torch, with `weight_gradient` in the backward pass. It can be differentiated twice."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Return the convolution ``[B, O, 1, T']``."""
        ctx.save_for_backward(image, weight)
        ctx.stride = stride
        ctx.padding = padding
        return nn.functional.conv2d(image, weight, bias, (1, stride), (0, padding))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        """Return the gradients of the image, the weight and the bias."""
        image, weight = ctx.saved_tensors
        needs_image, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        # oneDNN computes the gradients of the image and the bias. The last argument says which gradients are needed.
        shape = ([1, ctx.stride], [0, ctx.padding], [1, 1], False, [0, 0], 1)
        image_gradient, _, bias_gradient = torch.ops.aten.convolution_backward(
            gradient, image, weight, [len(weight)], *shape, [needs_image, False, needs_bias]
        )
        products = None
        if needs_weight:
            products = weight_gradient(image, gradient, weight.shape[3], ctx.stride, ctx.padding)
        return image_gradient, products, bias_gradient, None, None


def weight_gradient(image: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Return the weight gradient ``[O, C, 1, kernel]`` of a convolution along time.

    The output at step t reads the input at ``stride * t + k - padding`` through sample k of the kernel. So the gradient
    of this sample is one matrix product of all output steps with their input steps. Zeros of the padding are left out.

    Parameters
    ----------
    image : Tensor
        Input ``[B, C, 1, T]``. Channels last needs no copy.
    gradient : Tensor
        Gradient ``[B, O, 1, T']`` of the output.
    """
    inputs = image.squeeze(2).transpose(1, 2)
    outputs = gradient.squeeze(2)
    steps = inputs.shape[1]
    samples = []
    for k in range(kernel):
        # The first and the last output step whose input lies within the signal
        first = max(0, -((k - padding) // stride))
        last = min(outputs.shape[2] - 1, (steps - 1 - k + padding) // stride)
        start = stride * first + k - padding
        stop = stride * last + k - padding + 1
        zeros = image.new_zeros(outputs.shape[1], inputs.shape[2])
        if last < first:
            samples.append(zeros)
            continue
        samples.append(torch.addbmm(zeros, outputs[:, :, first : last + 1], inputs[:, start:stop:stride]))
    return torch.stack(samples, dim=2).unsqueeze(2)
