"""The electrical sources of one heart: place, time, strength and direction.

The ventricles consist of ten segments. Each segment is a dipole at a fixed place. Its strength is a Gaussian kernel
over the time since QRS onset (McSharry et al. 2003, "A dynamical model for generating synthetic electrocardiogram
signals", IEEE TBME 50:289; the multi-lead dipole form of Sameni et al. 2007, "Multichannel ECG and noise modeling",
EURASIP JASP 2007:43407). The sum of the segments is the moving dipole of the QRS loop. A segment that is dead, thick or
activated late changes the leads that are close to it. Repolarization has four global sources and three regional ones.
The atria have two sources.

The directions and strengths in this module are those of an average normal adult, rounded. `build` varies them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SEGMENTS = (
    "septum_left",
    "septum_right",
    "apex",
    "anterior",
    "inferior",
    "lateral",
    "rv_free",
    "posterior",
    "high_lateral",
    "basal_septum",
)
INDEX = {name: index for index, name in enumerate(SEGMENTS)}
RIGHT = [INDEX["septum_right"], INDEX["rv_free"], INDEX["basal_septum"]]
LEFT = [INDEX[name] for name in ("apex", "anterior", "inferior", "lateral", "posterior", "high_lateral")]

# Place of each segment in cm. Axes as in `leadfield`: x to the left arm, y to the feet, z to the back.
PLACES = np.array(
    [
        [-1.0, 0.0, -1.5],
        [-1.5, 1.0, -3.0],
        [4.0, 3.0, -2.5],
        [2.5, 0.0, -3.5],
        [2.0, 3.5, 0.5],
        [5.0, 0.0, 1.0],
        [-3.0, 1.0, -3.0],
        [3.0, 0.0, 4.0],
        [4.0, -3.0, 2.0],
        [-1.0, -3.0, -1.0],
    ]
)

# Activation time and kernel width of each segment as fractions of the QRS duration, for normal conduction.
CENTRES = np.array([0.14, 0.28, 0.38, 0.42, 0.47, 0.52, 0.46, 0.62, 0.74, 0.84])
WIDTHS = np.array([0.085, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0.095, 0.10, 0.09])
MOMENTS = np.array(
    [
        [-0.06, -0.03, -0.09],
        [0.16, 0.02, -0.22],
        [0.18, 0.27, 0.16],
        [0.43, -0.14, -0.13],
        [0.24, 0.47, 0.26],
        [0.21, -0.15, 0.19],
        [0.08, 0.13, -0.15],
        [-0.13, 0.04, 0.48],
        [0.02, -0.02, 0.13],
        [-0.03, -0.02, -0.03],
    ]
)

# Territories of the coronary arteries: a place, and the direction that points out of the heart there.
REGIONS: dict[str, tuple[Array, Array]] = {
    "septal": (np.array([-1.5, 0.5, -3.0]), np.array([-0.45, 0.05, -0.9])),
    "anterior": (np.array([2.0, 0.0, -3.5]), np.array([0.25, 0.0, -0.97])),
    "apical": (np.array([4.0, 2.5, -2.5]), np.array([0.7, 0.35, -0.6])),
    "lateral": (np.array([5.0, 0.0, 1.0]), np.array([0.97, 0.0, 0.25])),
    "high_lateral": (np.array([4.5, -3.0, 1.0]), np.array([0.8, -0.6, 0.1])),
    "inferior": (np.array([1.5, 4.0, 0.5]), np.array([0.0, 1.0, 0.1])),
    "posterior": (np.array([2.5, 0.5, 4.0]), np.array([0.1, 0.1, 0.99])),
    "centre": (np.array([2.0, 0.5, 0.0]), np.array([0.6, 0.35, -0.7])),
}


@dataclass
class Kernels:
    """A list of two-sided Gaussian kernels. Each one is a dipole at a place.

    Times are on the clock of the wave: seconds since P onset for the atria, seconds since QRS onset for the QRS, and
    fractions of QT since QRS onset for ST and T.
    """

    place: list[Array] = field(default_factory=list)
    """Place in cm (3,)."""
    centre: list[float] = field(default_factory=list)
    """Time of the maximum."""
    left: list[float] = field(default_factory=list)
    """Standard deviation before the centre."""
    right: list[float] = field(default_factory=list)
    """Standard deviation after the centre."""
    moment: list[Array] = field(default_factory=list)
    """Dipole moment (3,)."""

    def add(self, place: Array, centre: float, left: float, right: float, moment: Array) -> None:
        """Append one kernel."""
        self.place.append(place)
        self.centre.append(centre)
        self.left.append(left)
        self.right.append(right)
        self.moment.append(moment)


@dataclass
class Heart:
    """One heart in one record. Times are in seconds."""

    pr: float
    qrs: float
    """Duration of the QRS."""
    qtc: float
    p_duration: float
    atria: Kernels
    """The sources of the P wave."""
    place: Array
    """Place of each segment in cm (10, 3)."""
    centre: Array
    """Activation time of each segment (10,)."""
    width: Array
    """Standard deviation of the kernel of each segment (10,)."""
    moment: Array
    """Dipole moment of each segment (10, 3)."""
    muscle: Array
    """Part of `moment` that grows and dies with the muscle of the segment (10, 3). The rest is individual variation."""
    extra: Kernels
    """Additional sources of the QRS: pathological Q, delta wave, late right ventricle."""
    recovery: Kernels
    """The sources of ST and T."""


def unit(v: Array) -> Array:
    """Return a vector with the direction of `v` and length one."""
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-9))


def rotation(yaw: float, pitch: float, roll: float) -> Array:
    """Return the rotation matrix (3, 3) of `yaw` about y, `pitch` about x and `roll` about z, in radians.

    Roll turns the heart in the frontal plane. A positive roll moves the axis from the left towards the feet.
    """
    cy, sy = np.cos(yaw), np.sin(yaw)
    cp, sp = np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def qrs_area(heart: Heart) -> Array:
    """Return the QRS area vector (3,) in mV s: the sum of moment times kernel area over all sources."""
    area = np.sqrt(2 * np.pi) * (heart.width[:, None] * heart.moment).sum(0)
    for left, right, moment in zip(heart.extra.left, heart.extra.right, heart.extra.moment, strict=True):
        area = area + np.sqrt(np.pi / 2) * (left + right) * moment
    return np.asarray(area)


# Force of a wave that passes from cell to cell, as a multiple of the moments above.
MUSCLE = 1.3

# Standard deviation of a kernel of T before and after its centre, as a multiple of the width in `T_CLOCK`.
T_RISE = 1.08
T_FALL = 0.94

# Places in cm, centres, and standard deviations before and after the centre in s, of the right and the left atrium.
P_SOURCES = (
    (np.array([-3.0, -3.0, -1.0]), np.array([1.0, -3.0, 2.5])),
    (0.036, 0.068),
    (0.015, 0.016),
    (0.016, 0.015),
)

# Repolarization: global ramp, onset, main part and end; then three regions. Centre and width are fractions of QT.
T_CLOCK = (
    (0.36, 0.15),
    (0.565, 0.098),
    (0.725, 0.078),
    (0.84, 0.072),
    (0.725, 0.082),
    (0.735, 0.082),
    (0.73, 0.082),
)
T_REGIONS = ("centre", "centre", "centre", "centre", "anterior", "lateral", "inferior")
T_MOMENTS = np.array(
    [
        [0.00, 0.00, -0.05],
        [0.05, 0.02, -0.10],
        [0.32, 0.11, -0.10],
        [0.09, 0.08, -0.05],
        [-0.16, -0.14, -0.14],
        [0.05, -0.05, 0.09],
        [0.11, 0.21, 0.02],
    ]
)
