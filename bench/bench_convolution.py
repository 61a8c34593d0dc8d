"""Speed of the three passes of a convolution in both memory layouts, and of its weight gradient by matrix products.

    python bench/bench_convolution.py [--isa AVX2]

The rule of `models/convolution.py: TimeConvolution` rests on this table: GFLOP/s of the forward pass, the gradient of
the image and the gradient of the weight, contiguous and channels last, and of the weight gradient as matrix products
(channels last). One thread, processor times, medians of seven rounds in which the cases take turns. `matmul` is the
product of 1024x1024. `--isa AVX2` limits torch, oneDNN and MKL to the instructions of a processor without AVX-512.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

ROUNDS = 7
SIDE = 1024
SHAPES = [
    # Batch, input channels, output channels, kernel, steps, stride
    (32, 128, 128, 5, 1000, 1),
    (32, 128, 128, 3, 1000, 1),
    (32, 128, 128, 5, 1000, 2),
    (128, 128, 128, 5, 250, 1),
    (32, 128, 128, 5, 62, 1),
    (32, 64, 64, 5, 250, 1),
    (32, 32, 32, 39, 1000, 1),
]


def main() -> None:
    if sys.argv[1:] == ["--isa", "AVX2"] and "ATEN_CPU_CAPABILITY" not in os.environ:
        # These variables have an effect only if they are set before the libraries are loaded.
        limits = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **limits})
    import torch

    torch.set_num_threads(1)
    print(f"{torch.backends.cpu.get_cpu_capability()}, GFLOP/s")
    print(f"{'':<30}{'contiguous':^24}{'channels last':^24}")
    passes = f"{'forward':>8}{'image':>8}{'weight':>8}"
    print(f"{'B, C, O, kernel, T, stride':<30}{passes}{passes}{'products':>10}{'matmul':>8}")
    for shape in SHAPES:
        cases, operations = passes_of(*shape)
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for turn in range(ROUNDS + 1):
            for name, work in cases.items():
                start = time.process_time()
                work()
                # The first round warms up.
                if turn:
                    seconds[name].append(time.process_time() - start)
        row = f"{', '.join(map(str, shape)):<30}"
        for name, times in seconds.items():
            count = 2 * SIDE**3 if name == "matmul" else operations
            row += f"{count / statistics.median(times) / 1e9:>{10 if name == 'products' else 8}.0f}"
        print(row, flush=True)


def passes_of(
    batch: int, channels: int, out: int, kernel: int, steps: int, stride: int
) -> tuple[dict[str, Callable[[], object]], float]:
    """The cases, in the order of the columns, and the floating-point operations of one pass."""
    import torch
    from torch.nn.functional import conv2d

    from einthoven.models.convolution import weight_gradient

    padding = kernel // 2
    weight = torch.randn(out, channels, 1, kernel)
    matrices = torch.randn(2, SIDE, SIDE)
    options = ([1, stride], [0, padding], [1, 1], False, [0, 0], 1)
    cases: dict[str, Callable[[], object]] = {}
    for layout in (torch.contiguous_format, torch.channels_last):
        image = torch.randn(batch, channels, 1, steps).contiguous(memory_format=layout)
        result = conv2d(image, weight, None, (1, stride), (0, padding))
        gradient = torch.randn_like(result)

        def forward(image=image):
            return conv2d(image, weight, None, (1, stride), (0, padding))

        def backward(which, image=image, gradient=gradient):
            return torch.ops.aten.convolution_backward(gradient, image, weight, None, *options, which)

        cases[f"{layout} forward"] = forward
        cases[f"{layout} image"] = lambda backward=backward: backward([True, False, False])
        cases[f"{layout} weight"] = lambda backward=backward: backward([False, True, False])
    cases["products"] = lambda: weight_gradient(image, gradient, kernel, stride, padding)
    cases["matmul"] = lambda: torch.mm(matrices[0], matrices[1])
    operations = 2.0 * batch * channels * out * kernel * result.shape[3]
    return cases, operations


if __name__ == "__main__":
    main()
