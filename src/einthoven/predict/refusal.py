"""Refusal: a bundle gives no answer for a record that is unlike the records of its training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from einthoven.data.doctor import CODES, Finding


@dataclass(frozen=True)
class Refusal:
    """When a bundle refuses a record.

    Attributes
    ----------
    findings : tuple of str
        Codes of the doctor (`einthoven.data.doctor.CODES`). A record with such a finding is refused.
    familiar : float
        Smallest share of the calibration records that has to be as far from the training records as a record that is
        answered. A record with this share or a smaller one is refused.
    unaltered : float
        Share of the unaltered records that these rules refuse, measured on records that a network had not seen.
    """

    findings: tuple[str, ...]
    familiar: float
    unaltered: float

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Refusal:
        """Return the refusal of a checked entry of ``bundle.json``."""
        return cls(tuple(content["findings"]), float(content["familiar"]), float(content["unaltered"]))

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``bundle.json``."""
        return {"findings": list(self.findings), "familiar": self.familiar, "unaltered": self.unaltered}

    def of_findings(self, findings: Sequence[Finding]) -> str | None:
        """Return why a record with these findings of the doctor is refused; None if it is not."""
        for finding in findings:
            if finding.code in self.findings:
                return f"not answered, because it is unlike the training records: {describe(finding)}."
        return None

    def of_share(self, share: float) -> str | None:
        """Return why a record with this share of familiar records is refused; None if it is not.

        The share is that of `einthoven.evaluation.familiarity.Familiarity.share`; NaN if it is not known.
        """
        if math.isnan(share) or share > self.familiar:
            return None
        return (
            f"not answered, because it is unlike the training records: only {share:.1%} of the calibration records "
            f"are as far from them; expected more than {self.familiar:.1%}."
        )


def describe(finding: Finding) -> str:
    """Return the meaning of a finding of the doctor, and its evidence."""
    return f"{CODES[finding.code]} ({finding.evidence})"
