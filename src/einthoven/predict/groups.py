"""Bundles made of a bundle: one that answers other groups of classes, and its network alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from einthoven.evaluation.calibration import Uncalibrated
from einthoven.models.frontend import Classifier
from einthoven.models.readout import Readout
from einthoven.predict.bundle import Bundle

Groups = Mapping[str, Mapping[str, str]]
"""Name of a group -> class -> what it means."""


def answer_groups(bundle: Bundle, groups: Groups) -> Bundle:
    """Return a bundle that answers the classes of some groups. It has no calibration, thresholds or intervals.

    Parameters
    ----------
    bundle : Bundle
        If its network has learned statements, each statement can be a class: the output of the network for it.
    groups : mapping
        Their classes are classes of the bundle or learned statements.

    Raises
    ------
    ValueError
        If a class is neither, if a network that has learned classes does not answer all of them in their order, or if
        the first group is another one than that for which a mean of models answers.
    """
    classes = tuple(name for meanings in groups.values() for name in meanings)
    if bundle.members and tuple(next(iter(groups.values()))) != bundle.classes[: bundle.mean_classes]:
        raise ValueError(f"the first group {next(iter(groups))}; expected {bundle.classes[: bundle.mean_classes]}")
    model = bundle.model
    parts = dict(bundle.parts)
    readout = model.readout
    if readout is not None:
        members = dict(zip(bundle.classes, readout.members, strict=True))
        wider = Readout(readout.statements, [members.get(name, (name,)) for name in classes])
        model = Classifier(model.frontend, model.network, wider).eval()
        parts["readout"] = wider.options()
    elif classes != bundle.classes:
        raise ValueError(f"the classes {classes}; this network answers {bundle.classes}")
    return replace(
        bundle,
        model=model,
        parts=parts,
        classes=classes,
        groups=groups,
        calibration=Uncalibrated(classes, bundle.single_label),
        calibration_method="none",
        band=None,
        conformal={},
        points={},
    )


def answer_first_group(bundle: Bundle) -> Bundle:
    """Return a bundle that answers the main classes only: the label set that the network was trained for."""
    if len(bundle.groups) < 2:
        return bundle
    name, meanings = next(iter(bundle.groups.items()))
    return answer_groups(bundle, {name: meanings})


def network_alone(bundle: Bundle) -> Bundle:
    """Return the network of a bundle whose answer is a mean. It has no calibration, thresholds or intervals."""
    trained_on = f"{bundle.provenance['trained_on']}; the network alone"
    return replace(
        bundle,
        members=(),
        provenance={**bundle.provenance, "trained_on": trained_on},
        calibration=Uncalibrated(bundle.classes, bundle.single_label),
        calibration_method="none",
        band=None,
        conformal={},
        points={},
        missing_leads={},
    )
