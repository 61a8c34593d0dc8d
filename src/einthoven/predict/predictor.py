"""Records to predictions: probabilities with intervals, sets of statements, uncertainty and cautions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.evaluation.band import logits_and_deviation
from einthoven.evaluation.conformal import statement_sets
from einthoven.evaluation.saliency import Method, integrated_gradients
from einthoven.evaluation.uncertainty import EntropyParts, entropy_parts
from einthoven.functional import outputs
from einthoven.functional.windows import aggregate_windows, apply_to_windows
from einthoven.predict.bundle import Bundle
from einthoven.predict.explaining import Explanation, explain_window
from einthoven.predict.network import last_layer
from einthoven.predict.signal import Prepared, prepare, read_prepared

RECORDS_PER_BATCH = 32
"""Records that pass through the network together. More records do not fit into the cache of a CPU."""

NORMAL_QUANTILE = 1.959963984540054
"""95 % of a normal distribution lie within this number of standard deviations."""

UNFAMILIAR_SHARE = 0.05
"""A record is unlike the training data if at most this share of the calibration records is as far from them."""

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Predictions for n records and K classes.

    A recording that is longer than the records of the training is cut into W windows of their length.

    Attributes
    ----------
    sources : tuple of n str
        Names of the records.
    probabilities : ndarray of float64, shape (n, K)
        Calibrated probabilities: the mean or maximum over the windows of a record, and the mean over all members (the
        bundles and dropout masks).
    intervals : ndarray of float64, shape (n, K, 2)
        95 % interval of each probability. It contains the uncertainty of the calibration and the variance between
        members. NaN if a bundle was not calibrated, or if the calibration records of a class were all positive or all
        negative.
    sets : tuple of n tuples of str
        The statements that each record may have. The sets miss at most the share `alpha` of the true statements, on
        average over records like the calibration records. Without `alpha`, a set contains all classes.
    alpha : float or None
        None if there is no such guarantee (`Predictor.alphas`).
    entropy : EntropyParts
        Predictive entropy of each record and its parts (n,), in nats.
    familiar : ndarray of float64, shape (n,)
        Share of the calibration records that are at least as far from the training records as this one: the mean over
        the bundles that contain these distances. A small share means that the record is unlike the training data. NaN
        if no bundle contains them, or with dropout.
    windows : tuple of n ndarrays of float64, shape (W, K)
        Probabilities of each window of a record.
    start_s : tuple of n ndarrays of float64, shape (W,)
        Start of each window, in seconds.
    in_training : tuple of n bool or None
        Whether a model was trained on this signal. None if no bundle lists the signals of its training.
    cautions : tuple of n tuples of str
        Sentences that a reader of the prediction must know.
    """

    sources: tuple[str, ...]
    probabilities: Float
    intervals: Float
    sets: tuple[tuple[str, ...], ...]
    alpha: float | None
    entropy: EntropyParts
    familiar: Float
    windows: tuple[Float, ...]
    start_s: tuple[Float, ...]
    in_training: tuple[bool | None, ...]
    cautions: tuple[tuple[str, ...], ...]


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

    Raises
    ------
    UserError
        If the bundles differ, or if `draws` is positive and a network has no dropout.
    """

    def __init__(self, bundles: Sequence[Bundle], draws: int = 0, seed: int = 0) -> None:
        if not bundles or draws < 0:
            raise UserError(f"{len(bundles)} bundles and {draws} draws found; expected a bundle, and 0 draws or more.")
        first = bundles[0]
        for other in bundles[1:]:
            _check_same_task(first, other)
        if draws and not all(_dropout_layers(bundle.model) for bundle in bundles):
            raise UserError("draws: this network has no dropout; its uncertainty takes several bundles.")
        self.bundles = tuple(bundles)
        self.draws = draws
        self.seed = seed
        self.classes = first.classes
        self.single_label = first.single_label
        self.input_format = first.input_format
        self.cuts = tuple(dict.fromkeys(cut for bundle in bundles for cut in bundle.cuts))
        self._ancestries = [bundle.ancestry for bundle in bundles if bundle.ancestry is not None]

    @property
    def notice(self) -> str:
        """The sentences that must accompany every prediction."""
        return " ".join(dict.fromkeys(bundle.notice for bundle in self.bundles))

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
            For the first record that cannot be read, or lacks something that the model needs.
        """
        return self.predict_prepared([self.prepare(record) for record in records], alpha)

    def prepare(self, record: Record | str | Path) -> Prepared:
        """Convert a record, or the file of a record, to the input of the model.

        Raises
        ------
        UserError
            As in `predict`.
        """
        if isinstance(record, Record):
            return prepare(record, self.input_format, cuts=self.cuts)
        _, prepared = read_prepared(record, self.input_format, cuts=self.cuts)
        return prepared

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
            The class; by default the most probable class.
        method : Method
            A function of `evaluation.saliency` or `evaluation.occlusion`.
        judge : bool
            Also measure how far the explanation can be trusted (`evaluation.faithfulness`). This takes several times as
            long.

        Raises
        ------
        UserError
            If the record cannot be read or lacks something that the model needs, if the class is unknown, or if the
            network does not support the method.
        """
        if label is not None and label not in self.classes:
            raise UserError(f"class {label}: unknown; this model knows {', '.join(self.classes)}.")
        prepared = record if isinstance(record, Prepared) else self.prepare(record)
        prediction = self.predict_prepared([prepared], *self.alphas[:1])
        most_probable = int(prediction.probabilities[0].argmax())
        class_index = most_probable if label is None else self.classes.index(label)
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
            cautions=prediction.cautions[0],
        )

    def predict_prepared(self, records: Sequence[Prepared], alpha: float = 0.1) -> Prediction:
        """Predict prepared records, as `predict`."""
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
        threshold = self.bundles[0].conformal[alpha] if self.alphas else 0.0
        in_training = [self._is_in_training(record) for record in records]
        cautions = []
        for record, trained, share in zip(records, in_training, familiar, strict=True):
            cautions.append((*self._ancestry_cautions(record, trained), *record.cautions, *_unfamiliar_caution(share)))
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
        )

    def _is_in_training(self, record: Prepared) -> bool | None:
        """Return whether a model was trained on a record. None if no bundle lists the records of its training."""
        if not self._ancestries:
            return None
        return any(bool(ancestry.in_training(record.digests).any()) for ancestry in self._ancestries)

    def _ancestry_cautions(self, record: Prepared, is_in_training: bool | None) -> tuple[str, ...]:
        """Return a caution if a bundle was trained or calibrated on a record."""
        if is_in_training:
            return ("this record was in the training data",)
        if any(ancestry.in_fitting(record.digests).any() for ancestry in self._ancestries):
            return ("the calibration was fitted on this record",)
        return ()

    def _predict_members(self, bundle: Bundle, signal: NDArray[np.int16]) -> Iterator[tuple[Float, Float | None]]:
        """Call `predict_windows` once for each dropout mask, or once without dropout."""
        if not self.draws:
            yield predict_windows(bundle, signal)
            return
        for draw in range(self.draws):
            with _dropout_on(bundle.inference_model, self.seed + draw):
                probabilities, _ = predict_windows(bundle, signal)
            yield probabilities, None

    def _intervals(self, by_member: Float) -> Float:
        """Return the 95 % intervals (n, K, 2) of the mean over members (M, n, K).

        The variances within and between the members are added on the logit scale.
        """
        from scipy.special import expit

        bands: list[Float] = []
        for bundle in self.bundles:
            if bundle.band is None:
                return np.full((*by_member.shape[1:], 2), np.nan)
            bands += [bundle.band] * max(self.draws, 1)
        members = [logits_and_deviation(p, band) for p, band in zip(by_member, bands, strict=True)]
        logits = np.array([logit for logit, _ in members])
        deviations = np.array([deviation for _, deviation in members])
        spread = np.sqrt(np.square(deviations).mean(axis=0) + np.var(logits, axis=0))
        centre, _ = logits_and_deviation(by_member.mean(axis=0), bands[0])
        low = expit(centre - NORMAL_QUANTILE * spread)
        high = expit(centre + NORMAL_QUANTILE * spread)
        return np.stack([low, high], axis=-1)


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


def predict_windows(bundle: Bundle, signal: NDArray[np.int16]) -> tuple[Float, Float | None]:
    """Predict windows in µV (n, L, T), each as long as a record of the training.

    Returns
    -------
    probabilities : ndarray of float64, shape (n, K)
        Before calibration.
    distance : ndarray of float64, shape (n,), or None
        Distance from the training records. None if the bundle does not contain their features.
    """
    if bundle.familiarity is None:
        probabilities, _ = _run_network(bundle, signal, None)
        return probabilities, None
    layer = last_layer(bundle.inference_model, len(bundle.classes))
    probabilities, features = _run_network(bundle, signal, layer)
    return probabilities, bundle.familiarity.distance(features)


def compute_features(bundle: Bundle, signal: NDArray[np.int16]) -> Float:
    """Return the features (n, D) of windows in µV (n, L, T): the mean input of the last layer of the network."""
    _, features = _run_network(bundle, signal, last_layer(bundle.inference_model, len(bundle.classes)))
    return features


@torch.inference_mode()
def _run_network(bundle: Bundle, signal: NDArray[np.int16], layer: nn.Linear | None) -> tuple[Float, Float]:
    """Return uncalibrated probabilities (n, K), and the features (n, D) that a layer reads; without it, D is 0."""
    input_format = bundle.input_format
    activation = outputs.softmax if bundle.single_label else outputs.sigmoid
    device = next(bundle.inference_model.parameters()).device
    probabilities = [np.zeros((0, len(bundle.classes)))]
    features = [np.zeros((0, layer.in_features if layer else 0))]
    with _captured_inputs(layer) as captured:
        for first in range(0, len(signal), RECORDS_PER_BATCH):
            microvolts = torch.from_numpy(signal[first : first + RECORDS_PER_BATCH])
            x = microvolts.to(device, torch.float32).mul_(1e-3)
            logits = apply_to_windows(bundle.inference_model, x, input_format.window, input_format.stride)
            # Device-to-host sync: once per batch.
            by_window = activation(logits.double().cpu(), bundle.temperature)
            batch_probabilities = aggregate_windows(by_window, input_format.aggregate).numpy()
            if not np.isfinite(batch_probabilities).all():
                raise UserError(
                    "the network of this bundle answers with values that are not finite; it cannot be used."
                )
            probabilities.append(batch_probabilities)
            if layer is not None:
                by_position = captured.pop().reshape(len(x), -1, layer.in_features)
                features.append(by_position.mean(dim=1).double().cpu().numpy())
    return np.concatenate(probabilities), np.concatenate(features)


@contextmanager
def _captured_inputs(layer: nn.Linear | None) -> Iterator[list[Tensor]]:
    """Collect the inputs of a layer while the block runs."""
    captured: list[Tensor] = []
    if layer is None:
        yield captured
        return
    handle = layer.register_forward_pre_hook(lambda _, arguments: captured.append(arguments[0]))
    try:
        yield captured
    finally:
        handle.remove()


def _dropout_layers(model: nn.Module) -> list[nn.Module]:
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
    return [module for module in model.modules() if isinstance(module, kinds) and module.p > 0]


@contextmanager
def _dropout_on(model: nn.Module, seed: int) -> Iterator[None]:
    """Turn on the dropout of a model in evaluation mode. The masks follow from the seed."""
    layers = _dropout_layers(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def _aggregate_records(values: Float, counts: Sequence[int], rule: str) -> Float:
    """Aggregate the windows of each record: (sum of counts, K) to (n, K)."""
    records = [aggregate_windows(part, rule, axis=0) for part in _split_records(values, counts)]
    return np.stack(records) if records else np.zeros((0, values.shape[1]))


def _split_records(values: Float, counts: Sequence[int]) -> list[Float]:
    """Split values of all windows into one array for each record."""
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []


def _unfamiliar_caution(share: float) -> tuple[str, ...]:
    """Return a caution if a record is unlike the training data. The share is NaN if that is not known."""
    if share <= UNFAMILIAR_SHARE:
        return (f"unlike the training data: {share:.1%} of the calibration records are as far from it",)
    return ()
