"""How large the weights of each stage are, in three norms."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, stage_norms

_SQUARINGS = 9


def weight_norms(stages: Stages) -> dict[str, Tensor]:
    """``watch/weight/norm/<stage>`` (L2) and ``watch/weight/norm_l1/<stage>``, of all weights and biases of a stage."""
    told = {f"watch/weight/norm/{name}": norm for name, norm in stage_norms(stages).items()}
    return told | {f"watch/weight/norm_l1/{name}": norm for name, norm in stage_norms(stages, 1.0).items()}


def spectral_norms(stages: Stages) -> dict[str, Tensor]:
    """``watch/weight/spectral/<stage>``: the largest singular value among the matrices of a stage.

    Of a convolution it is that of its kernel as a matrix ``(out, in · width)``, as in spectral normalization (Miyato
    et al. 2018, section 2.1), not that of the map between signals. Stages without a matrix are left out.
    """
    matrices = {name: [p.detach().flatten(1) for p in stage if p.ndim > 1] for name, stage in stages.items()}
    return {
        f"watch/weight/spectral/{name}": torch.stack([spectral_norm(matrix) for matrix in stage]).amax()
        for name, stage in matrices.items()
        if stage
    }


@torch.no_grad()
def spectral_norm(matrix: Tensor) -> Tensor:
    """Largest singular value of a matrix ``(m, n)``, as a device tensor; 0 for the matrix of zeros.

    The power method on the smaller Gram matrix G, by squaring: nine squarings stand for 512 steps and need no start
    vector, and nothing waits for the device, as a singular value decomposition would. The estimate ``tr(G G⁵¹²) /
    tr(G⁵¹²)`` of its square is a mean of the squared singular values with weights σ¹⁰²⁴: never too large, and too
    small by at most about 0.1 ‰ for each singular value that is nearly as large (Golub & Van Loan, "Matrix
    computations", section 7.3).
    """
    tiny = torch.finfo(torch.float32).tiny
    largest = matrix.abs().amax().float().clamp_min(tiny)
    matrix = matrix.float() / largest  # squares of very small or large numbers would not fit
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.mT
    gram = matrix @ matrix.mT
    power = gram
    for _ in range(_SQUARINGS):
        power = power / torch.linalg.matrix_norm(power).clamp_min(tiny)
        power = power @ power
    return largest * ((gram * power).sum() / power.trace().clamp_min(tiny)).clamp_min(0).sqrt()
