"""Predict records with one bundle, or with several bundles together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from einthoven.data.doctor import Finding, examine_record
from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.evaluation.band import mean_intervals
from einthoven.evaluation.conformal import statement_sets
from einthoven.evaluation.saliency import Method, integrated_gradients
from einthoven.evaluation.uncertainty import entropy_parts
from einthoven.functional.windows import aggregate_windows
from einthoven.predict.bundle import Bundle
from einthoven.predict.explaining import Explanation, explain_window
from einthoven.predict.forward import (
    dropout_layers,
    dropout_on,
    mean_with,
    predict_windows,
    predict_with_members,
    predict_with_network,
)
from einthoven.predict.missing_lead import compute_lead, refuse_missing
from einthoven.predict.prediction import Float, Prediction
from einthoven.predict.seen_records import is_in_training, seen_cautions
from einthoven.predict.signal import Prepared, prepare, read_prepared

LARGEST_SEED = 2**32 - 1

UNFAMILIAR_SHARE = 0.05
"""A record is unlike the training data if at most this share of the calibration records is as far from them."""


class Predictor:
    """Predict with one bundle, or with several bundles as a deep ensemble (the mean of their probabilities).

    Parameters
    ----------
    bundles : sequence of Bundle
        All have the same classes, leads, sampling frequency and record length.
    draws : int
        Number of dropout masks for each bundle (Gal and Ghahramani 2016). 0 turns dropout off. Use 0 if you need only
        the probabilities.
    seed : int
        Seed of the dropout masks.
    without : str or None
        A lead that the records lack, or that is not to be used. It is computed from the other leads, with the weights
        of the first bundle.

    Attributes
    ----------
    groups : dict of str to dict of str to str
        Name of a group of classes -> class -> what it means, in the order of the classes. The first group is the main
        one: its most probable class is explained. Meanings are empty if the bundle has none.

    Raises
    ------
    UserError
        If the bundles differ, if `seed` is out of range, if `draws` is positive and a network has no dropout, or if a
        bundle cannot answer without the lead.
    """

    def __init__(self, bundles: Sequence[Bundle], draws: int = 0, seed: int = 0, without: str | None = None) -> None:
        if not bundles or draws < 0:
            raise UserError(f"{len(bundles)} bundles and {draws} draws found; expected a bundle, and 0 draws or more.")
        first = bundles[0]
        for other in bundles[1:]:
            _check_same_task(first, other)
        if not 0 <= seed <= LARGEST_SEED:
            raise UserError(f"seed={seed}: expected a whole number from 0 to {LARGEST_SEED}.")
        if draws and not all(dropout_layers(bundle.model) for bundle in bundles):
            raise UserError("draws: this network has no dropout; its uncertainty takes several bundles.")
        self.bundles = tuple(bundles)
        self.draws = draws
        self.seed = seed
        self.classes = first.classes
        self.groups = first.groups or {"classes": dict.fromkeys(first.classes, "")}
        self.single_label = first.single_label
        self.input_format = first.input_format
        self.cuts = tuple(dict.fromkeys(cut for bundle in bundles for cut in bundle.cuts))
        self.without = without
        if without is not None:
            for bundle in bundles:
                refuse_missing(without, bundle.missing_leads)
        self._ancestries = [bundle.ancestry for bundle in bundles if bundle.ancestry is not None]

    @property
    def notice(self) -> str:
        """The sentences that must accompany every prediction."""
        return " ".join(dict.fromkeys(bundle.notice for bundle in self.bundles))

    @property
    def attribution(self) -> str:
        """Who made the training records, and their licence; empty if no bundle states it."""
        return " ".join(dict.fromkeys(bundle.attribution for bundle in self.bundles if bundle.attribution))

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The lines below each answer and each picture: the notice, and the attribution if there is one."""
        return tuple(line for line in (self.notice, self.attribution) if line)

    @property
    def alphas(self) -> tuple[float, ...]:
        """Values of alpha for which sets are available.

        There are none with several bundles or with dropout, because no threshold was fitted to the mean of the members.
        """
        if self.draws or len(self.bundles) > 1:
            return ()
        return tuple(sorted(self.bundles[0].conformal))

    def predict(self, records: Iterable[Record | str | Path], alpha: float = 0.1) -> Prediction:
        """Predict records, or files that contain records.

        Parameters
        ----------
        records : iterable of Record, str or Path
        alpha : float
            Expected share of true statements that the sets may miss: one of `alphas`.

        Raises
        ------
        UserError
            For the first record that cannot be read, lacks something that the model needs, or is refused because it is
            unlike the training records.
        """
        prediction = self.predict_prepared([self.prepare(record) for record in records], alpha)
        prediction.raise_refused()
        return prediction

    def prepare(self, record: Record | str | Path) -> Prepared:
        """Convert a record, or the file of a record, to the input of the model.

        If a bundle refuses records by the findings of the doctor, the record is examined.

        Raises
        ------
        UserError
            If the record cannot be read, or lacks something that the model needs.
        """
        if isinstance(record, Record):
            prepared = prepare(self._with_all_leads(record), self.input_format, cuts=self.cuts)
        else:
            record, prepared = self.read(record)
        return self.examine(record, prepared)

    def read(self, file: str | Path, stride_s: float | None = None, **reading: Any) -> tuple[Record, Prepared]:
        """Read a file and convert its record to the input of the model, without an examination.

        The parameters are those of `einthoven.predict.signal.prepare` and `einthoven.data.read_record`. The record has
        the leads that were read.

        Raises
        ------
        UserError
            As in `prepare`.
        """
        if self.without is None:
            return read_prepared(file, self.input_format, stride_s, self.cuts, **reading)
        record = read_record(file, want=[lead for lead in self.input_format.leads if lead != self.without], **reading)
        return record, prepare(self._with_all_leads(record), self.input_format, stride_s, self.cuts)

    def examine(self, record: Record, prepared: Prepared) -> Prepared:
        """Let the doctor examine a record, if a bundle refuses records by its findings."""
        if not any(bundle.refusal and bundle.refusal.findings for bundle in self.bundles):
            return prepared
        return self.with_findings(prepared, examine_record(record))

    def with_findings(self, prepared: Prepared, findings: Sequence[Finding]) -> Prepared:
        """Return a prepared record that is refused if a bundle refuses one of the findings."""
        refusals = [bundle.refusal.of_findings(findings) for bundle in self.bundles if bundle.refusal is not None]
        reasons = [reason for reason in refusals if reason is not None]
        return replace(prepared, refused=f"{prepared.source}: {reasons[0]}") if reasons else prepared

    def can_answer_without(self, lead: str) -> bool:
        """Return whether this lead may be missing, because all bundles are known to be good without it.

        Only one lead may be missing.
        """
        if self.without is not None:
            return False
        known = [bundle.missing_leads.get(lead) for bundle in self.bundles]
        return all(missing is not None and missing.is_allowed for missing in known)

    def _with_all_leads(self, record: Record) -> Record:
        """Return a record with the lead that is computed, if there is one."""
        if self.without is None:
            return record
        missing = self.bundles[0].missing_leads[self.without]
        return compute_lead(record, self.without, missing, self.input_format.leads)

    def explain(
        self,
        record: Record | Prepared | str | Path,
        label: str | None = None,
        method: Method = integrated_gradients,
        *,
        judge: bool = False,
    ) -> Explanation:
        """Explain one class of one record.

        Of a long record, this explains the window in which the class is most probable. Dropout is off.
        ``load_bundle(path).explain("a.hea", "MI").by_lead`` is the share of each lead.

        Parameters
        ----------
        record : Record, Prepared, str or Path
        label : str or None
            The class; by default the most probable class of the first group.
        method : Method
            A function of `evaluation.saliency` or `evaluation.occlusion`.
        judge : bool
            Also measure how far the explanation can be trusted (`evaluation.faithfulness`). This takes several times as
            long.

        Raises
        ------
        UserError
            If the record cannot be read, lacks something that the model needs or is refused, if the class is unknown,
            or if the network does not support the method.
        """
        if label is not None and label not in self.classes:
            raise UserError(f"class {label}: unknown; this model knows {', '.join(self.classes)}.")
        prepared = record if isinstance(record, Prepared) else self.prepare(record)
        prediction = self.predict_prepared([prepared], *self.alphas[:1])
        prediction.raise_refused()
        if label is None:
            first_group = next(iter(self.groups.values()))
            class_index = int(prediction.probabilities[0, : len(first_group)].argmax())
        else:
            class_index = self.classes.index(label)
        class_probabilities = prediction.windows[0][:, class_index]
        window = int(class_probabilities.argmax())
        signal = prepared.signal[window].astype(np.float32) * np.float32(1e-3)
        relevance, faithfulness = explain_window(self.bundles, signal, class_index, method, judge=judge)
        return Explanation(
            source=prepared.source,
            label=self.classes[class_index],
            probability=float(class_probabilities[window]),
            start_s=float(prepared.start_s[window]),
            signal=signal.astype(np.float64),
            relevance=relevance,
            leads=self.input_format.leads,
            fs=self.input_format.fs,
            faithfulness=faithfulness,
            cautions=(*self._explained_share(class_index), *prediction.cautions[0]),
        )

    def _explained_share(self, class_index: int) -> tuple[str, ...]:
        """Return the caution that an explanation of a class is one of a part of its probability; none if it is not."""
        weights = []
        for bundle in self.bundles:
            is_mean = class_index < bundle.mean_classes
            weights.append(bundle.network_weight if is_mean else 1.0)
        share = float(np.mean(weights))
        if share == 1.0:
            return ()
        return (f"explains the network, which has a share of {share:.0%} in this answer",)

    def predict_prepared(self, records: Sequence[Prepared], alpha: float = 0.1) -> Prediction:
        """Predict prepared records, as `predict`. A record that is refused raises no error: `Prediction.refused`."""
        if self.alphas and alpha not in self.alphas:
            known = ", ".join(f"{a:g}" for a in self.alphas)
            raise UserError(f"alpha={alpha:g}: this bundle has thresholds for {known}.")

        # The windows of all records pass through the network as one array.
        counts = [len(record.signal) for record in records]
        no_windows = np.zeros((0, len(self.input_format.leads), self.input_format.samples), np.int16)
        signal = np.concatenate([no_windows, *(record.signal for record in records)])

        # One member for each bundle and dropout mask: its probabilities for records and windows.
        member_probabilities: list[Float] = []
        member_windows: list[Float] = []
        familiar_shares: list[Float] = []
        for bundle in self.bundles:
            for raw, distance in self._predict_members(bundle, signal):
                of_records = _aggregate_records(raw, counts, bundle.input_format.aggregate)
                member_probabilities.append(bundle.calibration.transform(of_records))
                member_windows.append(bundle.calibration.transform(raw))
                if distance is not None and bundle.familiarity is not None:
                    median_distance = [np.median(part) for part in _split_records(distance, counts)]
                    familiar_shares.append(bundle.familiarity.share(np.array(median_distance)))

        by_member = np.stack(member_probabilities)
        probabilities = by_member.mean(axis=0)
        familiar = np.mean(familiar_shares, axis=0) if familiar_shares else np.full(len(records), np.nan)
        threshold = np.array(self.bundles[0].conformal[alpha] if self.alphas else 0.0)
        in_training = [is_in_training(record, self._ancestries) for record in records]
        cautions = []
        for record, trained, share in zip(records, in_training, familiar, strict=True):
            cautions.append(self._cautions(record, trained, share))
        return Prediction(
            sources=tuple(record.source for record in records),
            probabilities=probabilities,
            intervals=self._intervals(by_member),
            sets=tuple(statement_sets(probabilities, threshold, self.classes)),
            alpha=alpha if self.alphas else None,
            entropy=entropy_parts(by_member, self.single_label),
            familiar=familiar,
            windows=tuple(_split_records(np.mean(member_windows, axis=0), counts)),
            start_s=tuple(record.start_s for record in records),
            in_training=tuple(in_training),
            cautions=tuple(cautions),
            refused=tuple(self._refused(record, share) for record, share in zip(records, familiar, strict=True)),
        )

    def _refused(self, record: Prepared, familiar_share: float) -> str | None:
        """Return why a record is refused: by the findings of the doctor, or because it is unfamiliar."""
        if record.refused is not None:
            return record.refused
        for bundle in self.bundles:
            reason = None if bundle.refusal is None else bundle.refusal.of_share(familiar_share)
            if reason is not None:
                return f"{record.source}: {reason}"
        return None

    def _cautions(self, record: Prepared, is_trained_on: bool | None, familiar_share: float) -> tuple[str, ...]:
        """Return the cautions of a record: about its use in training or calibration, its own, and if it is unfamiliar.

        `familiar_share` is NaN if it is not known.
        """
        cautions = [*seen_cautions(record, self._ancestries, is_trained_on), *record.cautions]
        if familiar_share <= UNFAMILIAR_SHARE:
            cautions.append(
                f"unlike the training data: {familiar_share:.1%} of the calibration records are as far from it"
            )
        return tuple(cautions)

    def _predict_members(self, bundle: Bundle, signal: NDArray[np.int16]) -> Iterator[tuple[Float, Float | None]]:
        """Predict windows once for each dropout mask of the network, or once without dropout, as `predict_windows`."""
        if not self.draws:
            yield predict_windows(bundle, signal)
            return
        of_members = predict_with_members(bundle, signal)
        for draw in range(self.draws):
            with dropout_on(bundle.inference_model, self.seed + draw):
                probabilities, _ = predict_with_network(bundle, signal)
            yield mean_with(bundle, probabilities, of_members), None

    def _intervals(self, by_member: Float) -> Float:
        """Return the 95 % intervals (n, K, 2) of the mean over members (M, n, K); NaN if a bundle has no band."""
        bands: list[Float] = []
        for bundle in self.bundles:
            if bundle.band is None:
                return np.full((*by_member.shape[1:], 2), np.nan)
            bands += [bundle.band] * max(self.draws, 1)
        return mean_intervals(by_member, bands)


def _check_same_task(first: Bundle, other: Bundle) -> None:
    """Refuse two bundles whose predictions cannot be averaged."""
    for name, ours, theirs in (
        ("classes", first.classes, other.classes),
        ("output", first.single_label, other.single_label),
        ("leads", first.input_format.leads, other.input_format.leads),
        ("sampling frequency", first.input_format.fs, other.input_format.fs),
        ("length of a record", first.input_format.seconds, other.input_format.seconds),
    ):
        if ours != theirs:
            raise UserError(f"bundles that differ in {name} ({ours} and {theirs}) cannot answer together.")


def _aggregate_records(values: Float, counts: Sequence[int], rule: str) -> Float:
    """Aggregate the windows of each record: (sum of counts, K) to (n, K)."""
    records = [aggregate_windows(part, rule, axis=0) for part in _split_records(values, counts)]
    return np.stack(records) if records else np.zeros((0, values.shape[1]))


def _split_records(values: Float, counts: Sequence[int]) -> list[Float]:
    """Split values of all windows into one array for each record."""
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []
