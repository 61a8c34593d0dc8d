"""Which altered records the bundle of real ECGs refuses, and which it answers.

    python bench/bench_refusal.py FOLDER [EVERY]

FOLDER has the cross-validation ``cv`` that `make_ptbxl_bundle.py --runs FOLDER` leaves. With EVERY=4, only every fourth
record is altered. Each record is judged by the network that has not seen it, with the rules of the bundle in the
package. Prints for each alteration: the share of records that are refused; the AUROC of altered against unaltered
records for the whole rule (a finding of the doctor that is refused counts most, then the distance from the training
records); and the AUROC of the distance alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from held_out import HeldOutFold, read_held_out
from numpy.typing import NDArray

from einthoven.augment.leads import swap_matrices
from einthoven.data.doctor import examine
from einthoven.evaluation.metrics import macro_auroc
from einthoven.functional.conform import round_to_int16
from einthoven.functional.electrodes import electrode_matrix
from einthoven.predict import PTBXL_BUNDLE
from einthoven.predict.bundle import Bundle, read_bundle

Float = NDArray[np.float64]
Alter = Callable[[Float, np.random.Generator], Float]

FS = 100.0
SEED = 0
AT_ONCE = 128
REFUSED_BY_FINDING = 1e6
"""Score of a record that is refused because of a finding of the doctor. A distance is far below."""


def main(folder: Path, every: int) -> None:
    bundle = read_bundle(PTBXL_BUNDLE)
    folds = [replace(fold, signals=fold.signals[::every]) for fold in read_held_out(folder / "cv")]
    unaltered = judge(folds, bundle, lambda x, rng: x)
    print(f"{len(unaltered[0])} out-of-fold records; unaltered: {unaltered[0].mean():.2%} refused")
    print(f"{'altered':44} refused  AUROC of the rule  AUROC of the distance")
    for name, alter in alterations().items():
        altered = judge(folds, bundle, alter)
        rule, distance = (auroc(altered[column], unaltered[column]) for column in (1, 2))
        print(f"{name:44} {altered[0].mean():7.1%}  {rule:17.3f}  {distance:21.3f}")


def alterations() -> Mapping[str, Alter]:
    """Return functions from records in mV (n, 12, T) to altered records, by what they do."""
    found: dict[str, Alter] = {}
    for name, factor in (
        ("µV written as mV (×1000)", 1e3),
        ("×10", 10.0),
        ("×2.5", 2.5),
        ("÷2.5", 0.4),
        ("÷10", 0.1),
        ("V written as mV (÷1000)", 1e-3),
    ):
        found[name] = scale(factor)
    for swap in ("RA-LA", "RA-LL", "LA-LL", "V1-V2", "V3-V4"):
        found[f"electrodes exchanged: {swap}"] = exchange(swap)
    for std in (0.05, 0.1, 0.2):
        found[f"white noise on the electrodes, sd {std:g} mV"] = add(white(std))
    found["50 Hz, 0.2 mV, sampled without a filter"] = add(sine(50.0, 0.2))
    found["wander of 0.2 Hz, 1 mV"] = add(sine(0.2, 1.0))
    found["white noise alone, sd 0.2 mV"] = lambda x, rng: white(0.2)(x.shape, rng)
    found["all leads are copies of II"] = lambda x, rng: np.repeat(x[:, 1:2], 12, axis=1)
    found["V2 to V6 are copies of V1"] = copy_to(6, (7, 8, 9, 10, 11))
    found["V3 is a copy of V2"] = copy_to(7, (8,))
    found["aVR turned (-aVR)"] = lambda x, rng: x * np.where(np.arange(12) == 3, -1.0, 1.0)[:, None]
    found["reversed in time"] = lambda x, rng: x[:, :, ::-1]
    return found


def scale(factor: float) -> Alter:
    """Return an alteration of the unit."""
    return lambda x, rng: x * factor


def exchange(swap: str) -> Alter:
    """Return an exchange of two electrodes."""
    (matrix,) = swap_matrices([swap])
    return lambda x, rng: np.asarray(np.einsum("kl,nlt->nkt", matrix, x))


def add(noise: Callable[[tuple[int, ...], np.random.Generator], Float]) -> Alter:
    """Return an alteration that adds noise (n, 12, T)."""
    return lambda x, rng: x + noise(x.shape, rng)


def white(std: float) -> Callable[[tuple[int, ...], np.random.Generator], Float]:
    """Return white noise on the nine electrodes, as leads."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
        return on_electrodes(rng.normal(0.0, std, (shape[0], 9, shape[2])))

    return draw


def sine(frequency: float, amplitude: float) -> Callable[[tuple[int, ...], np.random.Generator], Float]:
    """Return a sine on each electrode with a random phase, as leads."""

    def draw(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
        phase = rng.uniform(0.0, 2 * np.pi, (shape[0], 9, 1))
        return on_electrodes(amplitude * np.sin(2 * np.pi * frequency * np.arange(shape[2]) / FS + phase))

    return draw


def on_electrodes(potentials: Float) -> Float:
    """Return the leads (n, 12, T) of potentials of the electrodes (n, 9, T)."""
    return np.asarray(np.einsum("ke,net->nkt", electrode_matrix(), potentials))


def copy_to(source: int, targets: Sequence[int]) -> Alter:
    """Return an alteration that copies a lead to others."""

    def alter(x: Float, rng: np.random.Generator) -> Float:
        out = x.copy()
        out[:, list(targets)] = x[:, [source]]
        return out

    return alter


def judge(folds: Sequence[HeldOutFold], bundle: Bundle, alter: Alter) -> tuple[NDArray[np.bool_], Float, Float]:
    """Return for the altered records of all folds: whether they are refused, the score of the rule, the distance."""
    assert bundle.refusal is not None and bundle.familiarity is not None
    rng = np.random.default_rng(SEED)
    refused, scores, distances = [], [], []
    for fold in folds:
        x = alter(fold.signals * 1e-3, rng)
        findings = []
        for first in range(0, len(x), AT_ONCE):
            findings += examine(x[first : first + AT_ONCE], FS)
        has_finding = np.array([bundle.refusal.of_findings(own) is not None for own in findings])
        _, distance = fold.predict(round_to_int16(x * 1e3)[0])
        is_far = bundle.familiarity.share(distance) <= bundle.refusal.familiar
        refused.append(has_finding | is_far)
        scores.append(np.where(has_finding, REFUSED_BY_FINDING, distance))
        distances.append(distance)
    return np.concatenate(refused), np.concatenate(scores), np.concatenate(distances)


def auroc(altered: Float, unaltered: Float) -> float:
    """Return the probability that an altered record has a higher score than an unaltered one."""
    labels = np.concatenate([np.ones(len(altered)), np.zeros(len(unaltered))])
    return macro_auroc(labels[:, None], np.concatenate([altered, unaltered])[:, None])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
