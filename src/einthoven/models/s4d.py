"""S4D: linear state spaces with a diagonal matrix, computed as convolutions that are as long as the signal.

Gu, Gupta, Goel and Ré 2022, "On the parameterization and initialization of diagonal state space models". A channel u
drives N complex states, ``x' = A x + B u`` with a diagonal ``A`` and ``B = 1``. The output is ``y = 2 Re(C x) + D u``,
where each state also represents its conjugate. With the step dt and a zero-order hold, the sampled states are

    x[k] = exp(dt A) x[k - 1] + (exp(dt A) - 1) / A  u[k]

This is a convolution of u with ``K[l] = 2 Re(C (exp(dt A) - 1) / A exp(dt A l))``, computed with the FFT. Parameters
and kernel are real numbers, because not every optimizer and precision supports complex numbers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from einthoven.models.activations import activation_layer
from einthoven.models.blocks import check_depth, linear
from einthoven.models.norms import TOKEN_NORMS, check_norm, feature_norm


class DiagonalStateSpace(nn.Module):
    """One linear state space per channel, in both directions of time.

    It starts as S4D-Lin of the paper: ``A = -1/2 + i pi n``, steps log-uniform between 0.001 and 0.1, C and D standard
    normal.

    Parameters
    ----------
    channels
        Number of channels. Each has its own states.
    states
        Complex states per channel and direction. This is half of the N of the paper, whose other half is conjugate.
    """

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.shape = (2, channels, states)
        # The time constants are vectors and not matrices, so that they have no weight decay (optim/groups.py).
        self.log_step = nn.Parameter(torch.empty(2 * channels).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_decay = nn.Parameter(torch.full((2 * channels * states,), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states, dtype=torch.float32).repeat(2 * channels))
        # Real and imaginary part of C
        self.readout = nn.Parameter(torch.randn(2, 2 * channels * states) * math.sqrt(0.5))
        # D
        self.through = nn.Parameter(torch.randn(channels))

    def discretized(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return real and imaginary part of ``dt A`` and of ``C (exp(dt A) - 1) / A``.

        Each has the shape ``[2, channels, states]``. In the names below, ``re`` and ``im`` are real and imaginary part.
        """
        step = self.log_step.exp().view(*self.shape[:2], 1)
        a_re = -self.log_decay.exp().view(self.shape)
        a_im = self.frequency.view(self.shape)
        phase = step * a_im

        # exp(dt A) - 1
        magnitude = (step * a_re).exp()
        change_re = magnitude * phase.cos() - 1.0
        change_im = magnitude * phase.sin()

        # (exp(dt A) - 1) / A
        norm = a_re.square() + a_im.square()
        input_re = (change_re * a_re + change_im * a_im) / norm
        input_im = (change_im * a_re - change_re * a_im) / norm

        c_re, c_im = self.readout.view(2, *self.shape)
        return step * a_re, phase, c_re * input_re - c_im * input_im, c_re * input_im + c_im * input_re

    def kernel(self, length: int) -> Tensor:
        """Return the response to a unit sample after 0 … length - 1 samples, ``[2, channels, length]``.

        The first axis is forward and backward.
        """
        rate, phase, real, imaginary = (part.unsqueeze(-1) for part in self.discretized())
        time = torch.arange(length, device=rate.device, dtype=rate.dtype)
        envelope = 2.0 * (rate * time).exp()
        return (envelope * (real * (phase * time).cos() - imaginary * (phase * time).sin())).sum(dim=2)

    def forward(self, u: Tensor) -> Tensor:
        """Map ``[B, channels, T]`` to ``[B, channels, T]``."""
        length = u.shape[2]
        # There is no FFT in bfloat16.
        with torch.autocast(u.device.type, enabled=False):
            signal = u.to(self.through.dtype)
            forward, backward = self.kernel(length)

            # The signal is padded to 2 T samples, so that the circular convolution equals the plain one. The backward
            # kernel fills the circle from its end.
            circle = F.pad(forward, (0, length)) + F.pad(backward[:, 1:].flip(1), (length + 1, 0))
            spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(circle)
            convolved = torch.fft.irfft(spectrum, n=2 * length)[..., :length]

            # The current sample has the weight D, plus the first value of the backward kernel.
            gain = self.through + backward[:, 0]
            out: Tensor = convolved + gain[:, None] * signal
        return out


class S4DBlock(nn.Module):
    """A residual branch (state spaces, activation, a gated linear unit over the channels), then a norm.

    This is the block of S4 (Gu et al. 2022) with the norm at the end. The gate is from Dauphin et al. 2017.
    """

    branches = ("gate",)

    def __init__(self, width: int, states: int, *, activation: str, norm: str, dropout: float) -> None:
        super().__init__()
        self.mix = DiagonalStateSpace(width, states)
        self.act = activation_layer(activation)
        self.dropout = nn.Dropout(dropout)
        self.gate = linear(width, 2 * width)
        self.norm = feature_norm(norm, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[B, T, width]`` to ``[B, T, width]``."""
        mixed = self.mix(tokens.transpose(1, 2)).transpose(1, 2)
        mixed = self.dropout(self.act(mixed))
        gated = F.glu(self.gate(mixed), dim=-1)
        return self.norm(tokens + self.dropout(gated))


class S4D(nn.Module):
    """A pointwise layer, bidirectional S4D blocks, the mean over time, a linear layer.

    In recent comparisons, the strongest architecture from scratch on PTB-XL has this form, with 512 channels and
    windows of 2.5 s (`trainer.window`). The default width here is for a CPU.

    Stages (direct children): ``stem``, ``block1``, ``block2``, and so on, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        Channels of the signal; number of logits.
    width, depth
        Channels of each block; number of blocks.
    states
        Complex states per channel and direction. 4 complex states equal the 8 real states of the comparisons.
    dropout
        Dropout probability before and after the gated linear unit.
    activation
        Activation after the state spaces, as in `einthoven.models.activations`.
    norm
        Norm at the end of each block: ``layer``, ``rms`` or ``none``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 64,
        depth: int = 4,
        states: int = 4,
        dropout: float = 0.2,
        activation: str = "gelu",
        norm: str = "layer",
    ) -> None:
        super().__init__()
        check_norm(norm, TOKEN_NORMS)
        check_depth("depth", depth)
        self.stem = linear(in_channels, width)
        for i in range(depth):
            block = S4DBlock(width, states, activation=activation, norm=norm, dropout=dropout)
            self.add_module(f"block{i + 1}", block)
        self.head = linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to logits ``[B, num_classes]``."""
        return self.head(self.tokens(x).mean(dim=1))

    def tokens(self, x: Tensor) -> Tensor:
        """Map a signal ``[B, in_channels, T]`` to tokens ``[B, T, D]``."""
        *blocks, _ = self.children()
        tokens = x.transpose(1, 2)
        for stage in blocks:
            tokens = stage(tokens)
        return tokens
