"""A record without one chest lead: the lead is computed from the other leads, if a bundle allows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from einthoven.data.formats.record import Record
from einthoven.errors import UserError

MOST_LOSS = 0.01
"""A lead may be missing if the macro AUROC without it is surely lower by at most this (upper end of the interval)."""


@dataclass(frozen=True)
class MissingLead:
    """What a bundle knows about records without one of its leads.

    Attributes
    ----------
    weights : dict of str to float
        The missing lead is the sum of other leads times these weights.
    loss : float
        Macro AUROC with the lead minus macro AUROC without it, on records that were not used in training.
    low, high : float
        95 % interval of the loss.
    """

    weights: Mapping[str, float]
    loss: float
    low: float
    high: float

    @property
    def is_allowed(self) -> bool:
        """Whether the loss is surely small enough to answer."""
        return self.high <= MOST_LOSS

    @property
    def loss_with_interval(self) -> str:
        """The loss and its interval as text."""
        # Adding 0 turns -0.000 into 0.000.
        loss, low, high = (round(value, 3) + 0.0 for value in (self.loss, self.low, self.high))
        return f"{loss:.3f} (95 % {low:.3f} to {high:.3f})"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MissingLead:
        """Return the missing lead of a checked entry of ``bundle.json``."""
        weights = {lead: float(weight) for lead, weight in content["weights"].items()}
        return cls(weights, float(content["loss"]), float(content["low"]), float(content["high"]))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``bundle.json``."""
        return {"weights": dict(self.weights), "loss": self.loss, "low": self.low, "high": self.high}


def compute_lead(record: Record, lead: str, missing: MissingLead, leads: Sequence[str]) -> Record:
    """Return a record with the leads of a model. One of them is computed from the others.

    Parameters
    ----------
    record : Record
        It has the other leads. If it has the missing lead, too, that lead is not used.
    lead : str
        The missing lead.
    missing : MissingLead
    leads : sequence of str
        The leads of the model, in order.

    Returns
    -------
    Record
        A caution says which lead was computed. A sample of the lead is NaN where another lead is.

    Raises
    ------
    UserError
        If another lead is missing, too.
    """
    needed = [name for name in leads if name != lead]
    absent = [name for name in needed if name not in record.leads]
    if absent:
        raise UserError(
            f"{record.source}: {' '.join(absent)} missing, too; with --without {lead}, this model needs "
            f"{' '.join(needed)}."
        )
    computed = np.zeros(record.signal.shape[1], np.float64)
    for other, weight in missing.weights.items():
        computed += weight * record.signal[record.leads.index(other)]
    rows = {name: record.signal[record.leads.index(name)] for name in needed}
    rows[lead] = computed
    signal = np.array([rows[name] for name in leads], dtype=np.float32)
    caution = (
        f"{lead} was not read: it is computed from the other leads, which lowers the macro AUROC by "
        f"{missing.loss_with_interval}"
    )
    return replace(record, signal=signal, leads=tuple(leads), cautions=(*record.cautions, caution))


def refuse_missing(lead: str, missing_leads: Mapping[str, MissingLead]) -> None:
    """Refuse a lead without which a model cannot answer, or was not measured.

    Parameters
    ----------
    lead : str
        The missing lead.
    missing_leads : mapping of str to MissingLead
        What a bundle knows about each lead that was measured.

    Raises
    ------
    UserError
        Names the leads that may be missing.
    """
    allowed = [name for name, missing in missing_leads.items() if missing.is_allowed]
    expected = f"expected one of {', '.join(allowed)}" if allowed else "expected a record with all of its leads"
    if lead not in missing_leads:
        raise UserError(f"--without {lead}: it was not measured how good this model is without this lead; {expected}.")
    if lead not in allowed:
        raise UserError(
            f"--without {lead}: the macro AUROC of this model is lower by {missing_leads[lead].loss_with_interval} "
            f"without this lead, and at most {MOST_LOSS:g} is accepted; {expected}."
        )
