"""Size of the weights of each stage, in three norms."""

from __future__ import annotations

import torch
from torch import Tensor

from einthoven.diagnostics.stages import Stages, stage_norms

_SQUARINGS = 9


def weight_norms(stages: Stages) -> dict[str, Tensor]:
    """Return ``watch/weight/norm/<stage>`` (L2) and ``watch/weight/norm_l1/<stage>`` of all weights and biases."""
    l2_norms = {f"watch/weight/norm/{name}": norm for name, norm in stage_norms(stages).items()}
    l1_norms = {f"watch/weight/norm_l1/{name}": norm for name, norm in stage_norms(stages, 1.0).items()}
    return l2_norms | l1_norms


def spectral_norms(stages: Stages) -> dict[str, Tensor]:
    """Return ``watch/weight/spectral/<stage>``: the largest singular value among the matrices of a stage.

    The kernel of a convolution counts as a matrix ``(out, in · width)``, as in spectral normalization (Miyato et al.
    2018, section 2.1). Its norm is not the norm of the map between signals. Stages without a matrix are left out.
    """
    norms = {}
    for name, parameters in stages.items():
        matrices = [p.detach().flatten(1) for p in parameters if p.ndim > 1]
        if matrices:
            stage_values = [spectral_norm(matrix) for matrix in matrices]
            norms[f"watch/weight/spectral/{name}"] = torch.stack(stage_values).amax()
    return norms


@torch.no_grad()
def spectral_norm(matrix: Tensor) -> Tensor:
    """Return the largest singular value of a matrix ``(m, n)`` as a device tensor; 0 for a matrix of zeros.

    This is the power method on the smaller Gram matrix G, by repeated squaring. Nine squarings equal 512 steps. The
    method needs no start vector and, unlike a singular value decomposition, does not wait for the device. The square
    of the norm is estimated by ``tr(G G⁵¹²) / tr(G⁵¹²)``, a mean of the squared singular values with weights σ¹⁰²⁴.
    The estimate is never too large. It is too small by at most about 0.1 ‰ for each singular value that is nearly as
    large as the largest (Golub & Van Loan, "Matrix computations", section 7.3).
    """
    # Without this scaling, the squares of very small or very large numbers would leave the range of float32.
    tiny = torch.finfo(torch.float32).tiny
    largest = matrix.abs().amax().float().clamp_min(tiny)
    matrix = matrix.float() / largest

    # The smaller of the two Gram matrices has the same non-zero eigenvalues.
    matrix = matrix if len(matrix) <= matrix.shape[1] else matrix.mT
    gram = matrix @ matrix.mT

    power = gram
    for _ in range(_SQUARINGS):
        power = power / torch.linalg.matrix_norm(power).clamp_min(tiny)
        power = power @ power
    squared_norm = (gram * power).sum() / power.trace().clamp_min(tiny)
    return largest * squared_norm.clamp_min(0).sqrt()
