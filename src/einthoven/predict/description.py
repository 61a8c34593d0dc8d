"""Checks of the description of a bundle: types, names and ranges, before anything is built from it.

A bundle can come from a stranger, and a few bytes can ask for terabytes of memory. Each failed check is one sentence.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from itertools import pairwise
from reprlib import repr as short_repr
from typing import Any

from einthoven.data.doctor import CODES
from einthoven.errors import UserError
from einthoven.functional.class_names import MAX_CHARACTERS, is_name
from einthoven.functional.conform import LONG_RULES
from einthoven.functional.leads import LEADS
from einthoven.predict.signal import InputFormat

CLASSES_LIMIT = 10_000
SAMPLES_LIMIT = 1 << 20
WINDOWS_LIMIT = 100_000
RATE_LIMIT = 100_000.0
"""Largest sampling frequency, in Hz."""
CUTS_LIMIT = 100
STATEMENTS_LIMIT = 1_000
"""Most statements that classes are read from."""
MEMBERS_LIMIT = 100
"""Most models of ECG features."""
FEATURES_LIMIT = 10_000
VERSIONS_LIMIT = 1_000_000
RECORDS_LIMIT = 1_000_000_000

_ENTRIES = ["model", "reads", "classes", "output", "temperature", "calibration", "band", "conformal"]
_ENTRIES += ["operating_points", "familiarity", "provenance"]


def check_description(description: Mapping[str, Any]) -> InputFormat:
    """Refuse a description that this package does not write.

    Parameters
    ----------
    description : mapping
        The content of ``bundle.json``.

    Returns
    -------
    InputFormat
        The input that the model expects.

    Raises
    ------
    UserError
        The message names the first entry that is missing or wrong.
    """
    for name in _ENTRIES:
        if name not in description:
            raise UserError(f"a bundle without {name}.")
    classes = _names("classes", description["classes"], CLASSES_LIMIT)
    _expect("output", description["output"], description["output"] in ("softmax", "sigmoid"), "softmax or sigmoid")
    _number("temperature", description["temperature"], above=0.0)
    check_networks(_mapping("model", description["model"]), len(classes))
    _check_band(description["band"], len(classes))
    _check_conformal(description["conformal"], len(classes))
    _check_groups(description.get("groups"), classes)
    _check_points(_mapping("operating_points", description["operating_points"]), classes)
    _check_familiarity(description["familiarity"])
    calibration = _mapping("calibration", description["calibration"])
    _text("calibration.method", calibration.get("method"))
    _mapping("calibration.learned", calibration.get("learned"))
    provenance = _mapping("provenance", description["provenance"])
    _text("provenance.trained_on", provenance.get("trained_on"))
    input_format = check_reads(_mapping("reads", description["reads"]))
    attribution = provenance.get("attribution")
    if attribution is not None:
        _text("provenance.attribution", attribution)
    _check_mean(description.get("mean"))
    _check_refusal(description.get("refusal"))
    _check_missing_leads(description.get("missing_leads"), input_format.leads)
    _check_ancestry(description.get("ancestry"), input_format)
    return input_format


def _check_ancestry(ancestry: Any, input_format: InputFormat) -> None:
    # Version 0.1 did not list the training records.
    if ancestry is None:
        return
    cuts = _list("ancestry.cuts", _mapping("ancestry", ancestry).get("cuts"))
    _expect("ancestry.cuts", cuts, len(cuts) <= CUTS_LIMIT, f"{CUTS_LIMIT} at most")
    for cut in cuts:
        rule, stride = _list("ancestry.cuts", cut, length=2)
        _expect("ancestry.cuts", rule, rule in LONG_RULES, f"{', '.join(LONG_RULES)}")
        if stride is not None:
            _number("ancestry.cuts", stride, least=1 / input_format.fs, most=input_format.seconds)


def check_reads(content: Mapping[str, Any]) -> InputFormat:
    """Return the input that a model expects, from the entry ``reads``. Raise a `UserError` if a value is wrong."""
    names = {"leads", "fs", "seconds", "pads", "window", "stride", "aggregate", "unit"}
    _expect("reads", sorted(content), set(content) == names, f"the entries {', '.join(sorted(names))}")
    leads = _names("reads.leads", content["leads"], len(LEADS))
    for lead in leads:
        _expect("reads.leads", lead, lead in LEADS, f"some of {' '.join(LEADS)}")
    fs = _number("reads.fs", content["fs"], above=0.0, most=RATE_LIMIT)
    seconds = _number("reads.seconds", content["seconds"], above=0.0, most=SAMPLES_LIMIT / fs)
    _expect("reads.pads", content["pads"], type(content["pads"]) is bool, "true or false")
    _expect("reads.unit", content["unit"], content["unit"] == "mV", "mV")
    _expect("reads.aggregate", content["aggregate"], content["aggregate"] in ("mean", "max"), "mean or max")
    samples = round(seconds * fs)
    window = _whole("reads.window", content["window"], least=1, most=samples)
    stride = _whole("reads.stride", content["stride"], least=1, most=SAMPLES_LIMIT)
    windows = (samples - window) // stride + 1
    _expect("reads.stride", stride, windows <= WINDOWS_LIMIT, f"{WINDOWS_LIMIT:,} windows in a record at most")
    return InputFormat(leads, fs, seconds, content["pads"], window, stride, content["aggregate"])


def check_networks(model: Mapping[str, Any], classes: int = 0) -> None:
    """Refuse an entry ``model`` that does not name a frontend and a network, each with options.

    It may have a readout of the classes.
    """
    for name in ("frontend", "network"):
        part = _mapping(f"model.{name}", model.get(name))
        _text(f"model.{name}.class", part.get("class"))
        _mapping(f"model.{name}.options", part.get("options"))
    if "readout" in model:
        _check_readout(_mapping("model.readout", model["readout"]), classes)


def _check_readout(readout: Mapping[str, Any], classes: int) -> None:
    """Refuse a readout that does not name some statements for each class."""
    _expect("model.readout", sorted(readout), set(readout) == {"statements", "members"}, "statements and members")
    statements = _names("model.readout.statements", readout["statements"], STATEMENTS_LIMIT)
    for members in _list("model.readout.members", readout["members"], length=classes):
        for name in _names("model.readout.members", members, STATEMENTS_LIMIT):
            _expect("model.readout.members", name, name in statements, "names among the statements")


def _check_band(band: Any, classes: int) -> None:
    if band is None:
        return
    _list("band", band, length=classes)
    for matrix in band:
        for row in _list("band", matrix, length=2):
            for value in _list("band", row, length=2):
                if value is not None:
                    _number("band", value)


def _check_conformal(conformal: Any, classes: int) -> None:
    for item in _list("conformal", conformal):
        entry = _mapping("conformal", item)
        _number("conformal.alpha", entry.get("alpha"), above=0.0, most=1.0)
        threshold = entry.get("threshold")
        # One for all classes, or one for each class.
        thresholds = _list("conformal.threshold", threshold, classes) if isinstance(threshold, list) else [threshold]
        for value in thresholds:
            _number("conformal.threshold", value, least=0.0, most=1.0)


def _check_groups(groups: Any, classes: tuple[str, ...]) -> None:
    # Bundles of earlier formats have none.
    if not groups:
        return
    in_groups: list[str] = []
    for group, meanings in _mapping("groups", groups).items():
        _text("groups", group)
        _expect(f"groups.{group}", meanings, bool(meanings), "a class or more")
        for name, meaning in _mapping(f"groups.{group}", meanings).items():
            _text(f"groups.{group}", meaning)
            in_groups.append(name)
    _expect("groups", in_groups, in_groups == list(classes), "each class once, in their order")


def _check_points(points: Mapping[str, Any], classes: tuple[str, ...]) -> None:
    for label, rules in points.items():
        _expect("operating_points", label, label in classes, "the classes of the bundle")
        for rule, point in _mapping("operating_points", rules).items():
            _text("operating_points", rule)
            for name, value in _mapping("operating_points", point).items():
                if value is not None:
                    # A threshold that no probability reaches is the number after 1.
                    _number(f"operating_points.{_text('operating_points', name)}", value, least=0.0, most=1.0 + 1e-9)


def _check_familiarity(familiarity: Any) -> None:
    if familiarity is None:
        return
    held = _list("familiarity.held", _mapping("familiarity", familiarity).get("held"))
    distances = [_number("familiarity.held", value, least=0.0) for value in held]
    ascending = all(a <= b for a, b in pairwise(distances))
    _expect("familiarity.held", held, bool(held) and ascending, "distances, ascending")


def _check_mean(mean: Any) -> None:
    # Bundles of earlier formats are those of a network alone.
    if mean is None:
        return
    content = _mapping("mean", mean)
    _expect("mean", sorted(content), set(content) == {"network", "boosted_trees"}, "network and boosted_trees")
    weights = [_number("mean.network", content["network"], above=0.0, most=1.0)]
    members = _list("mean.boosted_trees", content["boosted_trees"])
    _expect("mean.boosted_trees", members, 0 < len(members) <= MEMBERS_LIMIT, f"1 to {MEMBERS_LIMIT}")
    for member in members:
        entry = _mapping("mean.boosted_trees", member)
        weights.append(_number("mean.boosted_trees.weight", entry.get("weight"), above=0.0, most=1.0))
        _whole("mean.boosted_trees.features", entry.get("features"), least=1, most=VERSIONS_LIMIT)
        names = _names("mean.boosted_trees.names", entry.get("names"), FEATURES_LIMIT)
        _whole("mean.boosted_trees.components", entry.get("components"), least=0, most=len(names))
        _whole("mean.boosted_trees.records", entry.get("records"), least=1, most=RECORDS_LIMIT)
    _expect("mean", weights, abs(sum(weights) - 1.0) < 1e-9, "weights that add up to 1")


def _check_refusal(refusal: Any) -> None:
    # Bundles of earlier formats have no such entry.
    if refusal is None:
        return
    content = _mapping("refusal", refusal)
    for code in _list("refusal.findings", content.get("findings")):
        _expect("refusal.findings", code, isinstance(code, str) and code in CODES, "codes of the doctor")
    for name in ("familiar", "unaltered"):
        _number(f"refusal.{name}", content.get(name), least=0.0, most=1.0)


def _check_missing_leads(missing_leads: Any, leads: tuple[str, ...]) -> None:
    if missing_leads is None:
        return
    for lead, missing in _mapping("missing_leads", missing_leads).items():
        _expect("missing_leads", lead, lead in leads, "leads of the bundle")
        content = _mapping(f"missing_leads.{lead}", missing)
        for name in ("loss", "low", "high"):
            _number(f"missing_leads.{lead}.{name}", content.get(name), least=-1.0, most=1.0)
        weights = _mapping(f"missing_leads.{lead}.weights", content.get("weights"))
        for other, weight in weights.items():
            _expect("missing_leads", other, other in leads and other != lead, f"leads of the bundle other than {lead}")
            _number(f"missing_leads.{lead}.weights", weight)


def _names(name: str, value: Any, most: int) -> tuple[str, ...]:
    """Return a list of names that are all different and have no control characters."""
    names = tuple(_text(name, item) for item in _list(name, value))
    _expect(name, value, 0 < len(names) <= most, f"1 to {most:,} names")
    _expect(name, value, len(set(names)) == len(names), "names that differ")
    return names


def _text(name: str, value: Any) -> str:
    """Return a text, or refuse another value."""
    _expect(name, value, is_name(value), f"a text of printable characters, {MAX_CHARACTERS:,} at most")
    return str(value)


def _number(
    name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> float:
    """Return a number in a range, or refuse another value."""
    if above > -math.inf:
        low = f"more than {above:g}"
    elif least > -math.inf:
        low = f"{least:g} or more"
    else:
        low = "any size"
    high = f" and {most:,.10g} at most" if most < math.inf else ""
    is_number = type(value) in (int, float) and abs(value) <= sys.float_info.max
    _expect(name, value, is_number and above < value and least <= value <= most, f"a number, {low}{high}")
    return float(value)


def _whole(name: str, value: Any, *, least: int, most: int) -> int:
    """Return a whole number, or refuse another value."""
    is_whole = type(value) is int and least <= value <= most
    _expect(name, value, is_whole, f"a whole number, {least:,} to {most:,}")
    return int(value)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return a mapping, or refuse another value."""
    _expect(name, value, isinstance(value, Mapping), "entries with names")
    return value


def _list(name: str, value: Any, length: int | None = None) -> list[Any]:
    """Return a list of this length, or refuse another value."""
    is_right = isinstance(value, list) and length in (None, len(value))
    _expect(name, value, is_right, "a list" if length is None else f"a list of {length}")
    return value


def _expect(name: str, value: Any, is_right: bool, expected: str) -> None:
    """Refuse an entry with one sentence that contains its value and what is expected."""
    if not is_right:
        raise UserError(f"{name} is {short_repr(value)[:150]}; expected {expected}.")
