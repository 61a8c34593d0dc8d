"""Augmentations that change the geometry between heart and leads: swapped electrodes and a rotated dipole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.augment.base import cached_tensor, draw_records, normal, uniform
from einthoven.errors import UserError
from einthoven.functional.electrodes import ELECTRODES, electrode_matrix
from einthoven.functional.leads import LEADS
from einthoven.functional.statements import (
    AXIS_STATEMENTS,
    INFARCTION_STATEMENTS,
    ISCHAEMIA_STATEMENTS,
    SHAPE_STATEMENTS,
    VOLTAGE_STATEMENTS,
)
from einthoven.functional.vectorcardiogram import INDEPENDENT_LEADS, dower_matrix, inverse_dower_matrix

SWAPS = ("RA-LA", "RA-LL", "LA-LL", "V1-V2", "V2-V3", "V1-V3", "V3-V4", "V4-V5", "V5-V6")
"""Pairs of electrodes that are easily confused: two electrodes on the limbs, or two that are close on the chest."""


def swap_electrodes(
    x: Tensor,
    generator: Generator,
    *,
    swaps: Sequence[str] = SWAPS,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Compute the leads of each record as if two electrodes had been swapped.

    The pair is drawn uniformly from `swaps`; see `swap_matrices`. With RA-LA, lead I is inverted, II and III are
    exchanged, and aVR and aVL are exchanged (Batchvarov, Malik and Camm 2007, "Incorrect electrode cable connection
    during electrocardiographic recording", Europace 9:1081).
    """
    matrices = cached_tensor(swap_matrices, tuple(swaps), tuple(leads), like=x)
    index = torch.randint(len(matrices), (x.shape[0],), generator=generator, device=x.device)
    return torch.where(draw_records(x, probability, generator), matrices[index] @ x, x)


def swap_matrices(swaps: Sequence[str], leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrices ``(S, L, L)`` that map the leads to the leads after a swap of two electrodes.

    M is the matrix from the electrodes to the leads, P is the swap, M⁺ is the pseudo-inverse of M, and 1 is the
    identity matrix. The result is ``M P M⁺ + (1 - M M⁺)``. The first term swaps the electrodes. The second term is for
    the part of the signal that does not obey the limb-lead laws, such as rounding errors. It keeps this part unchanged.

    Raises
    ------
    UserError
        If a swap is not written as two electrodes, or if the leads after the swap cannot be computed from `leads`.
    """
    matrix = electrode_matrix(leads)
    inverse = np.linalg.pinv(matrix)
    # Projection onto the potentials that no lead shows, for example the same potential at all electrodes.
    invisible = np.eye(len(ELECTRODES)) - inverse @ matrix
    matrices = []
    for swap in swaps:
        pair = [ELECTRODES.index(name) for name in swap.split("-") if name in ELECTRODES]
        if len(pair) != 2 or swap.count("-") != 1 or pair[0] == pair[1]:
            raise UserError(
                f"swaps: {swap!r} is not a pair of electrodes; expected two of {', '.join(ELECTRODES)} with a hyphen, "
                "as in RA-LA."
            )
        permutation = np.eye(len(ELECTRODES))
        permutation[pair] = permutation[pair[::-1]]
        # Potentials that no lead shows must still be in no lead after the swap. Otherwise the result depends on
        # potentials that are unknown.
        if np.abs(matrix @ permutation @ invisible).max() > 1e-9:
            raise UserError(f"swaps: {swap} needs leads that are not among {', '.join(leads)}; expected all twelve.")
        matrices.append(matrix @ permutation @ inverse + np.eye(len(leads)) - matrix @ inverse)
    if not matrices:
        raise UserError("swaps: the list is empty; expected at least one pair of electrodes, as in RA-LA.")
    return np.stack(matrices)


def rotate_vcg(
    x: Tensor, max_angle: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Rotate the dipole of the heart by an angle uniform in ``[0, max_angle]`` degrees, about a random axis.

    D is the matrix from the dipole to the leads, D⁺ is the inverse Dower transform, and R is the rotation. The result
    is ``x + D (R - 1) D⁺ x``. The part of the leads that a dipole explains is rotated. The residual does not change.
    The columns of D obey the limb-lead laws, so these laws still hold. Source of this augmentation: Gopal et al. 2021,
    "3KG: Contrastive learning of 12-lead electrocardiograms using physiologically-inspired augmentations".
    """
    batch = x.shape[0]
    axis = torch.nn.functional.normalize(normal(x, (batch, 3), generator), dim=1)
    angle = uniform(x, (batch, 1, 1), 0.0, math.radians(max_angle), generator)
    angle = angle * draw_records(x, probability, generator)
    to_leads = cached_tensor(dower_matrix, tuple(leads), like=x)
    to_dipole = cached_tensor(inverse_dower_matrix, tuple(leads), like=x)
    return x + (to_leads @ (_rotation_minus_one(axis, angle) @ to_dipole)) @ x


def _rotation_minus_one(axis: Tensor, angle: Tensor) -> Tensor:
    """Return R - 1 ``[B, 3, 3]``, where R rotates about the unit vectors `axis` ``[B, 3]`` by `angle` ``[B, 1, 1]``.

    Rodrigues' formula is ``R = 1 + sin(a) K + (1 - cos(a)) K²``, where K is the matrix of the cross product.
    """
    x, y, z = axis.unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    return angle.sin() * cross + (1.0 - angle.cos()) * (cross @ cross)


@dataclass(frozen=True)
class ElectrodeSwap:
    """Swap two electrodes of a record; see `swap_electrodes`. The labels do not change."""

    swaps: Sequence[str] = SWAPS
    leads: Sequence[str] = LEADS
    probability: float = 0.1
    changes: ClassVar[frozenset[str]] = (
        AXIS_STATEMENTS | SHAPE_STATEMENTS | INFARCTION_STATEMENTS | ISCHAEMIA_STATEMENTS | {"NORM"}
    )

    def __post_init__(self) -> None:
        """Refuse swaps whose result cannot be computed from these leads."""
        swap_matrices(self.swaps, self.leads)

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Swap electrodes of ``x``; see `swap_electrodes`."""
        return swap_electrodes(x, generator, swaps=self.swaps, leads=self.leads, probability=self.probability), y


@dataclass(frozen=True)
class VCGRotation:
    """Rotate the dipole of the heart by up to ``max_angle`` degrees; see `rotate_vcg`."""

    max_angle: float = 15.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_angle"
    keeps_dipole: ClassVar[bool] = False
    changes: ClassVar[frozenset[str]] = AXIS_STATEMENTS | VOLTAGE_STATEMENTS | SHAPE_STATEMENTS

    def __post_init__(self) -> None:
        """Refuse leads from which the dipole cannot be computed."""
        missing = [name for name in INDEPENDENT_LEADS if name not in self.leads]
        if missing:
            raise UserError(
                f"augmentation VCGRotation: the dipole is computed from {', '.join(INDEPENDENT_LEADS)}, and "
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among the leads."
            )

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Rotate the dipole of ``x``; see `rotate_vcg`."""
        return rotate_vcg(x, self.max_angle, generator, leads=self.leads, probability=self.probability), y
