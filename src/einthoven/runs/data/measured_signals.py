"""What a run measures in the signals of its splits: in one pass over them, and once for all runs on the same signals.

The results are kept beside the store. Their file is named by a hash of the signals of each split and of the code that
measures.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from einthoven.atomic import write_text
from einthoven.data.store.digests import Digests
from einthoven.data.store.packed_store import MILLIVOLT_PER_COUNT
from einthoven.data.store.splits import Split
from einthoven.diagnostics import data
from einthoven.files import seal, unseal
from einthoven.functional import moments as moments_module
from einthoven.functional.moments import LeadMoments, lead_moments

FOLDER = "measured"
"""Folder of the results in the cache."""


@dataclass(frozen=True)
class MeasuredSignals:
    """Results of one pass over the signals of all splits."""

    moments: LeadMoments
    """Of the training signals, in mV."""
    counts: data.SignalCounts
    """Constant and equal signals, as `einthoven.diagnostics.data.compare_signals` returns them."""


def measure_signals(splits: Mapping[str, Split], digests: Mapping[str, Digests], cache: Path) -> MeasuredSignals:
    """Read all signals once and measure them, unless the cache has the results already.

    `digests` are the content digests (S16) of the signals of each split. If the cache cannot be written, the signals
    are measured again next time.
    """
    shape = splits["train"].signals.shape[1:]
    file = cache / FOLDER / f"{_name(digests, shape)}.json"
    # A file that is missing or damaged is written again.
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return _from_json(unseal(file.read_text(encoding="utf-8")), leads=shape[0])

    signatures = {}
    moments = None
    for name, split in splits.items():
        signer = data.Signer()
        chunks = signer.sign(split.chunks())
        if name == "train":
            moments = lead_moments(chunks, scale=MILLIVOLT_PER_COUNT)
        else:
            for _ in chunks:
                pass
        signatures[name] = signer.signatures()
    assert moments is not None
    measured = MeasuredSignals(moments, data.compare_signals(signatures))
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, seal(_to_json(measured)))
    return measured


def _name(digests: Mapping[str, Digests], shape: tuple[int, ...]) -> str:
    """Return the name of the results for these signals and this code."""
    name_hash = hashlib.sha256(json.dumps([list(shape), {name: len(rows) for name, rows in digests.items()}]).encode())
    for module in (moments_module, data):
        name_hash.update(Path(str(module.__file__)).read_bytes())
    for rows in digests.values():
        name_hash.update(np.ascontiguousarray(rows).tobytes())
    return name_hash.hexdigest()[:16]


def _to_json(measured: MeasuredSignals) -> dict[str, object]:
    """Return the results as JSON values. A float keeps all of its digits."""
    moments = measured.moments
    return {
        "mean": moments.mean.tolist(),
        "covariance": moments.covariance.tolist(),
        "scalar_mean": moments.scalar_mean,
        "scalar_std": moments.scalar_std,
        "counts": measured.counts,
    }


def _from_json(content: Mapping[str, object], leads: int) -> MeasuredSignals:
    """Return the results that a file holds.

    Raises
    ------
    KeyError, ValueError, TypeError
        If they have another form.
    """
    mean = np.array(content["mean"], np.float64)
    covariance = np.array(content["covariance"], np.float64)
    if mean.shape != (leads,) or covariance.shape != (leads, leads):
        raise ValueError(f"moments of {mean.shape} {covariance.shape}, expected those of {leads} leads")
    counts = content["counts"]
    if not isinstance(counts, dict):
        raise TypeError("expected counts of signals")
    scalars = (float(content[name]) for name in ("scalar_mean", "scalar_std"))  # type: ignore[arg-type]
    return MeasuredSignals(LeadMoments(mean, covariance, *scalars), counts)
