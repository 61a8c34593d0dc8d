"""S4D: linear state spaces with a diagonal matrix, as convolutions as long as the signal.

Gu, Gupta, Goel and Ré 2022, "On the parameterization and initialization of diagonal state space models". A channel u
drives N complex states, ``x' = A x + B u`` with ``A`` diagonal and ``B = 1``, that are read as ``y = 2 Re(C x) + D u``
(each state stands for itself and its conjugate). Sampled with the step dt and a zero-order hold, they follow

    x[k] = exp(dt A) x[k - 1] + (exp(dt A) - 1) / A  u[k]

which is a convolution of u with ``K[l] = 2 Re(C (exp(dt A) - 1) / A exp(dt A l))``, done through the FFT. Parameters
and kernel are written in real numbers, which every optimizer and every precision knows.
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
    """One linear state space a channel, in both directions of time.

    Starts as the paper's S4D-Lin: ``A = -1/2 + i pi n``, steps log-uniform between .001 and .1, C and D
    standard normal.

    Parameters
    ----------
    channels
        Channels, each with its own states.
    states
        Complex states of a channel, for each direction: half of the N of the paper, whose other half is conjugate.
    """

    def __init__(self, channels: int, states: int) -> None:
        super().__init__()
        self.shape = (2, channels, states)
        # All kept flat: what is no matrix does not decay (optim/groups.py), and these are time constants.
        self.log_step = nn.Parameter(torch.empty(2 * channels).uniform_(math.log(1e-3), math.log(1e-1)))
        self.log_decay = nn.Parameter(torch.full((2 * channels * states,), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(states, dtype=torch.float32).repeat(2 * channels))
        self.readout = nn.Parameter(torch.randn(2, 2 * channels * states) * math.sqrt(0.5))  # real, imaginary
        self.through = nn.Parameter(torch.randn(channels))

    def discretized(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Real and imaginary part of ``dt A``, and of ``C (exp(dt A) - 1) / A``, each ``[2, channels, states]``."""
        step = self.log_step.exp().view(*self.shape[:2], 1)
        real, imaginary = -self.log_decay.exp().view(self.shape), self.frequency.view(self.shape)
        turn, fade = step * imaginary, (step * real).exp()
        up, over = fade * turn.cos() - 1.0, fade * turn.sin()  # exp(dt A) - 1
        norm = real.square() + imaginary.square()
        into, across = (up * real + over * imaginary) / norm, (over * real - up * imaginary) / norm  # divided by A
        c, d = self.readout.view(2, *self.shape)
        return step * real, turn, c * into - d * across, c * across + d * into

    def kernel(self, length: int) -> Tensor:
        """Response to a unit sample after 0 … length - 1 samples, ``[2, channels, length]``: forward, backward."""
        rate, turn, real, imaginary = (part.unsqueeze(-1) for part in self.discretized())
        time = torch.arange(length, device=rate.device, dtype=rate.dtype)
        envelope = 2.0 * (rate * time).exp()
        return (envelope * (real * (turn * time).cos() - imaginary * (turn * time).sin())).sum(dim=2)

    def forward(self, u: Tensor) -> Tensor:
        """Map ``[B, channels, T]`` to ``[B, channels, T]``."""
        length = u.shape[2]
        with torch.autocast(u.device.type, enabled=False):  # there is no FFT in bfloat16
            signal = u.to(self.through.dtype)
            ahead, behind = self.kernel(length)
            # Over 2 T the circular convolution is the plain one; the backward kernel runs from the end of the circle.
            around = F.pad(ahead, (0, length)) + F.pad(behind[:, 1:].flip(1), (length + 1, 0))
            spectrum = torch.fft.rfft(signal, n=2 * length) * torch.fft.rfft(around)
            convolved = torch.fft.irfft(spectrum, n=2 * length)[..., :length]
            now = self.through + behind[:, 0]
            out: Tensor = convolved + now[:, None] * signal
        return out


class S4DBlock(nn.Module):
    """State spaces, activation, a gated linear unit over the channels, added back, then the norm.

    The block of S4 (Gu et al. 2022) with its norm last; the gate is that of Dauphin et al. 2017.
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
        mixed = self.dropout(self.act(self.mix(tokens.transpose(1, 2)).transpose(1, 2)))
        gated = F.glu(self.gate(mixed), dim=-1)
        out: Tensor = self.norm(tokens + self.dropout(gated))
        return out


class S4D(nn.Module):
    """A pointwise layer, bidirectional S4D blocks, the mean over time, a linear layer.

    The strongest architecture from scratch on PTB-XL in recent comparisons has this form with 512 channels and reads
    2.5 s windows (`trainer.window`); the default width here is for a CPU.

    Stages (direct children): ``stem``, ``block1``, ``block2``, and so on, ``head``.

    Parameters
    ----------
    in_channels, num_classes
        In and out.
    width, depth
        Channels of every block; blocks.
    states
        Complex states of a channel and direction; 4 are the 8 real ones of the comparisons.
    dropout
        Probability before and after the gated linear unit.
    activation
        After the state spaces, as in `einthoven.models.activations`.
    norm
        After each block: ``layer``, ``rms`` or ``none``.
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
        *trunk, head = self.children()
        tokens = x.transpose(1, 2)
        for stage in trunk:
            tokens = stage(tokens)
        logits: Tensor = head(tokens.mean(dim=1))
        return logits
