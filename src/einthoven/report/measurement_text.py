"""The measurements of a record as text, for tables, pages and pictures."""

from __future__ import annotations

from einthoven.functional.measurements import Measurement, Measurements

LABELS = {"pr": "PR", "qrs": "QRS", "qt": "QT", "qtc_fridericia": "QTc"}
NOT_CLINICAL = "Measured by a model. Not for clinical use."


def measurement_lines(measurements: Measurements) -> list[str]:
    """Return the most important measurements, one in each line, with their spread between beats.

    A value that was not measured is a dash with the reason. QTc is that of Fridericia.
    """
    values = measurements.values
    lines = [_line("heart rate", values["heart_rate"], "/min")]
    lines += [_line(label, values[name], " ms") for name, label in LABELS.items()]
    lines.append(_line("axis", values["axis_qrs"], "°"))
    return lines


def measurement_notes(measurements: Measurements) -> list[str]:
    """Return what must be known of the measurements, one note in each line."""
    return [*(f"QTc: {note}" for note in measurements.values["qtc_fridericia"].notes), *measurements.notes]


def measurement_line(measurements: Measurements) -> str:
    """Return the most important measurements in one line, without their spread."""
    values = measurements.values
    parts = [_short("heart rate", values["heart_rate"], "/min")]
    parts += [_short(label, values[name], " ms") for name, label in LABELS.items()]
    axes = [_short("", values[f"axis_{wave}"], "°").strip() for wave in ("p", "qrs", "t")]
    parts.append(f"axes P {axes[0]}, QRS {axes[1]}, T {axes[2]}")
    parts += [*_st_part(values), *_reasons(values)]
    return "   ".join([*parts, *measurement_notes(measurements)])


def _line(label: str, measurement: Measurement, unit: str) -> str:
    if measurement.value is None:
        return f"{label} – ({measurement.reason})"
    spread = "" if measurement.spread is None else f" ± {measurement.spread:.0f}"
    return f"{label} {_whole(measurement.value)}{spread}{unit}"


def _short(label: str, measurement: Measurement, unit: str) -> str:
    if measurement.value is None:
        return f"{label} –"
    return f"{label} {_whole(measurement.value)}{unit}"


def _whole(value: float) -> str:
    # Adding zero turns -0 into 0.
    return f"{round(value) + 0:d}"


def _st_part(values: dict[str, Measurement]) -> list[str]:
    """Return the lowest and the highest ST level of the leads."""
    levels = []
    for name, measurement in values.items():
        if name.startswith("st_") and measurement.value is not None:
            levels.append((measurement.value, name.removeprefix("st_")))
    if not levels:
        return []
    low, low_lead = min(levels)
    high, high_lead = max(levels)
    return [f"ST {low:+z.2f} ({low_lead}) to {high:+z.2f} mV ({high_lead})"]


def _reasons(values: dict[str, Measurement]) -> list[str]:
    """Return why PR or QT is missing."""
    missing = [(label, values[name].reason) for name, label in LABELS.items() if values[name].value is None]
    return [f"no {label}: {reason}" for label, reason in missing[:1]]
