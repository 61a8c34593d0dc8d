"""Augmentations that move the heart against the leads: electrodes swapped, and the dipole turned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from einthoven.augment.base import chosen, constant, normal, uniform
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
"""Electrodes that are taken for one another: the limbs, and neighbours on the chest."""


def swap_electrodes(
    x: Tensor,
    generator: Generator,
    *,
    swaps: Sequence[str] = SWAPS,
    leads: Sequence[str] = LEADS,
    probability: float = 1.0,
) -> Tensor:
    """Give each record's leads as two electrodes taken for one another would have made them.

    The pair is drawn evenly from `swaps`; see `swap_matrices`. With RA-LA, lead I turns upside down, II and
    III change places, and so do aVR and aVL (Batchvarov, Malik and Camm 2007, "Incorrect electrode cable
    connection during electrocardiographic recording", Europace 9:1081).
    """
    matrices = constant(swap_matrices, tuple(swaps), tuple(leads), like=x)
    draw = torch.randint(len(matrices), (x.shape[0],), generator=generator, device=x.device)
    return torch.where(chosen(x, probability, generator), matrices[draw] @ x, x)


def swap_matrices(swaps: Sequence[str], leads: Sequence[str] = LEADS) -> NDArray[np.float64]:
    """Return the matrices ``(S, L, L)`` that each swap of two electrodes applies to the leads.

    With M from the electrodes to the leads, P the swap and M⁺ the pseudo-inverse: ``M P M⁺``, and the part
    that breaks the limb-lead laws, rounding, is added back as it was.

    Raises
    ------
    UserError
        If a swap is not written as two electrodes, or these leads do not determine what it makes of them.
    """
    matrix = electrode_matrix(leads)
    inverse = np.linalg.pinv(matrix)
    unseen = np.eye(len(ELECTRODES)) - inverse @ matrix  # potentials that make no difference to the leads
    made = []
    for swap in swaps:
        pair = [ELECTRODES.index(name) for name in swap.split("-") if name in ELECTRODES]
        if len(pair) != 2 or swap.count("-") != 1 or pair[0] == pair[1]:
            raise UserError(f"swaps: {swap!r}; expected two of {', '.join(ELECTRODES)} with a hyphen, as in RA-LA.")
        swapped = np.eye(len(ELECTRODES))
        swapped[pair] = swapped[pair[::-1]]
        if np.abs(matrix @ swapped @ unseen).max() > 1e-9:
            raise UserError(f"swaps: {swap} needs leads that are not among {', '.join(leads)}; expected all twelve.")
        made.append(matrix @ swapped @ inverse + np.eye(len(leads)) - matrix @ inverse)
    if not made:
        raise UserError("swaps: none given; expected at least one, as in RA-LA.")
    return np.stack(made)


def rotate_vcg(
    x: Tensor, max_angle: float, generator: Generator, *, leads: Sequence[str] = LEADS, probability: float = 1.0
) -> Tensor:
    """Turn the heart's dipole by an angle uniform in ``[0, max_angle]`` degrees, about an axis drawn evenly.

    With D from the dipole to the leads, D⁺ the inverse Dower transform and R the rotation, ``x + D (R - 1) D⁺ x``: the
    part of the leads that a dipole explains is turned, the residual stays as it is. The columns of D obey the
    limb-lead laws, so those survive (vectorcardiograms turned as augmentation: Gopal et al. 2021, "3KG: Contrastive
    learning of 12-lead electrocardiograms using physiologically-inspired augmentations").
    """
    batch = x.shape[0]
    axis = torch.nn.functional.normalize(normal(x, (batch, 3), generator), dim=1)
    angle = uniform(x, (batch, 1, 1), 0.0, math.radians(max_angle), generator) * chosen(x, probability, generator)
    to_leads = constant(dower_matrix, tuple(leads), like=x)
    to_dipole = constant(inverse_dower_matrix, tuple(leads), like=x)
    return x + (to_leads @ (rotation_minus_one(axis, angle) @ to_dipole)) @ x


def rotation_minus_one(axis: Tensor, angle: Tensor) -> Tensor:
    """Rotation about unit vectors ``[B, 3]`` by angles ``[B, 1, 1]``, less the identity: ``[B, 3, 3]``.

    Rodrigues' formula, ``R = 1 + sin(a) K + (1 - cos(a)) K²`` with K the matrix of the cross product.
    """
    x, y, z = axis.unbind(dim=1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).view(-1, 3, 3)
    turned: Tensor = angle.sin() * cross + (1.0 - angle.cos()) * (cross @ cross)
    return turned


@dataclass(frozen=True)
class ElectrodeSwap:
    """Swap two electrodes of a record; see `swap_electrodes`. The labels stay those of the heart."""

    swaps: Sequence[str] = SWAPS
    leads: Sequence[str] = LEADS
    probability: float = 0.1
    changes: ClassVar[frozenset[str]] = (
        AXIS_STATEMENTS | SHAPE_STATEMENTS | INFARCTION_STATEMENTS | ISCHAEMIA_STATEMENTS | {"NORM"}
    )

    def __post_init__(self) -> None:
        """Refuse swaps that these leads do not know the outcome of."""
        swap_matrices(self.swaps, self.leads)

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Swap electrodes of ``x``; see `swap_electrodes`."""
        return swap_electrodes(x, generator, swaps=self.swaps, leads=self.leads, probability=self.probability), y


@dataclass(frozen=True)
class VCGRotation:
    """Turn the heart's dipole by up to ``max_angle`` degrees; see `rotate_vcg`."""

    max_angle: float = 15.0
    leads: Sequence[str] = LEADS
    probability: float = 1.0
    strength: ClassVar[str] = "max_angle"
    changes: ClassVar[frozenset[str]] = AXIS_STATEMENTS | VOLTAGE_STATEMENTS | SHAPE_STATEMENTS

    def __post_init__(self) -> None:
        """Refuse leads from which the dipole cannot be told."""
        missing = [name for name in INDEPENDENT_LEADS if name not in self.leads]
        if missing:
            raise UserError(
                f"augmentation VCGRotation: the dipole is told from {', '.join(INDEPENDENT_LEADS)}, and "
                f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not among the leads."
            )

    def __call__(self, x: Tensor, y: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Turn the dipole of ``x``; see `rotate_vcg`."""
        return rotate_vcg(x, self.max_angle, generator, leads=self.leads, probability=self.probability), y
