"""The fitted values of a calibration as JSON, and the calibration from its fitted values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from einthoven.errors import UserError
from einthoven.evaluation.calibration import Calibration, Isotonic, PriorShift, Temperature, Uncalibrated, Vector
from einthoven.evaluation.metrics import FloatArray

METHODS: dict[str, tuple[type, frozenset[str]]] = {
    "none": (Uncalibrated, frozenset()),
    "temperature": (Temperature, frozenset({"temperature"})),
    "vector": (Vector, frozenset({"slope", "offset"})),
    "isotonic": (Isotonic, frozenset({"stated", "observed"})),
    "prior_shift": (PriorShift, frozenset({"stated", "fitted"})),
}
"""Name of the option in ``conf/calibration`` -> class of the method, and names of its fitted values."""


def fitted_state(calibration: Calibration) -> dict[str, object]:
    """Return the fitted values of a method for JSON: its attributes with a trailing underscore."""
    state: dict[str, object] = {}
    for name, value in vars(calibration).items():
        if not name.endswith("_"):
            continue
        if isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, list):
            value = [item.tolist() if isinstance(item, np.ndarray) else item for item in value]
        state[name.rstrip("_")] = value
    return state


def restore_calibration(
    method: str, classes: Sequence[str], single_label: bool, state: Mapping[str, object]
) -> Calibration:
    """Create a fitted method from its name and the result of `fitted_state`.

    Raises
    ------
    UserError
        If there is no such method, or if `state` does not fit to it.
    """
    if method not in METHODS:
        raise UserError(f"calibration {method}: expected one of {', '.join(METHODS)}.")
    method_class, names = METHODS[method]
    if set(state) != names:
        raise UserError(f"calibration {method}: found the fitted values {sorted(state)}; expected {sorted(names)}.")

    # `__init__` is not called, because the options with which the method was fitted are not stored.
    calibration: Calibration = object.__new__(method_class)
    vars(calibration).update(classes=tuple(classes), single_label=single_label)
    for name, value in state.items():
        if method == "isotonic" and isinstance(value, list):
            # One curve per class. The curves have different lengths.
            curves = [np.asarray(curve, dtype=np.float64) for curve in value]
            for curve in curves:
                _check_values(method, name, curve, len(classes))
            setattr(calibration, f"{name}_", curves)
        else:
            array = np.asarray(value, dtype=np.float64)
            _check_values(method, name, array, len(classes))
            setattr(calibration, f"{name}_", array)

    if isinstance(calibration, Isotonic):
        stated_lengths = [len(curve) for curve in calibration.stated_]
        observed_lengths = [len(curve) for curve in calibration.observed_]
        is_complete = len(stated_lengths) == len(classes) and stated_lengths == observed_lengths
        if not is_complete or min(stated_lengths) < 1:
            raise UserError(f"calibration isotonic: expected a curve with points for each of {len(classes)} classes.")
    return calibration


def _check_values(method: str, name: str, values: FloatArray, num_classes: int) -> None:
    """Refuse values that cannot be the result of a fit."""
    shape: tuple[int, ...] = (num_classes,)
    if method == "temperature":
        shape = ()
    elif method == "isotonic":
        shape = (values.size,)
    if values.shape != shape or not np.isfinite(values).all():
        raise UserError(
            f"calibration {method}: {name} has the shape {values.shape}; expected the shape {shape} and finite numbers."
        )

    is_valid = np.ones(1, dtype=np.bool_)
    expected = "numbers"
    if method == "temperature":
        is_valid = values > 0
        expected = "a number above 0"
    elif method == "prior_shift":
        is_valid = (values > 0) & (values < 1)
        expected = "shares between 0 and 1"
    elif method == "isotonic":
        is_rising = np.diff(values, prepend=values[:1]) >= 0
        is_valid = (values >= 0) & (values <= 1) & is_rising
        expected = "shares from 0 to 1, ascending"
    if not is_valid.all():
        raise UserError(f"calibration {method}: {name} is {values.ravel()[:5].tolist()}…; expected {expected}.")
