"""From records to answers: probabilities with intervals, sets of statements, uncertainty, cautions."""

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
from einthoven.predict.explaining import Explanation, explain
from einthoven.predict.network import last_layer
from einthoven.predict.signal import Prepared, prepare, read_prepared

AT_ONCE = 32  # records through the network together: more do not fit the cache
NORMAL = 1.959963984540054  # deviations of a normal distribution that hold 95 %
UNLIKE = 0.05  # share of the calibration records that are as far from the training records, below which it is told

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Answers for n records of K classes.

    Attributes
    ----------
    sources : tuple of n str
    probabilities : ndarray of float64, shape (n, K)
        Calibrated, over all windows of a record and all members.
    intervals : ndarray of float64, shape (n, K, 2)
        95 %, of each probability: what the calibration records leave open, and how far the members differ. NaN where a
        bundle was not calibrated, or a class had no record of both kinds.
    sets : tuple of n tuples of str
        The statements that the record may have: of those that are true, the share that such sets miss is `alpha` at
        most, as a mean over records like those of the calibration. All classes where nothing is promised.
    alpha : float or None
        None where the sets promise nothing (`Predictor.alphas`).
    entropy : EntropyParts
        Predictive entropy of each record and its parts (n,), nats.
    familiar : ndarray of float64, shape (n,)
        Share of the calibration records that are as unlike the training data as this one, the mean over those bundles
        that know; small is unlike. NaN where none does, and with dropout.
    windows : tuple of n ndarrays of float64, shape (W, K)
        Probabilities of each window of a record.
    start_s : tuple of n ndarrays of float64, shape (W,)
        Where each begins, in seconds.
    in_training : tuple of n bool or None
        Whether a model was trained on the record, by its signal; None where no bundle says what it was trained on.
    cautions : tuple of n tuples of str
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
    """Predicts with a bundle, or with several as one deep ensemble: the mean of their probabilities.

    Parameters
    ----------
    bundles : sequence of Bundle
        With the same classes, leads, sampling frequency and length of a record.
    draws : int
        Dropout masks that are drawn for each member (Gal and Ghahramani 2016); 0: dropout is off, as it should be
        where only the probabilities are asked for.
    seed : int
        Of the masks.

    Raises
    ------
    UserError
        If the bundles differ, or dropout is asked of a network without any.
    """

    def __init__(self, bundles: Sequence[Bundle], draws: int = 0, seed: int = 0) -> None:
        if not bundles or draws < 0:
            raise UserError(f"{len(bundles)} bundles and {draws} draws found; expected a bundle, and 0 draws or more.")
        self.bundles, self.draws, self.seed = tuple(bundles), draws, seed
        first = bundles[0]
        for other in bundles[1:]:
            for what, ours, theirs in (
                ("classes", first.classes, other.classes),
                ("output", first.single_label, other.single_label),
                ("leads", first.reads.leads, other.reads.leads),
                ("sampling frequency", first.reads.fs, other.reads.fs),
                ("length of a record", first.reads.seconds, other.reads.seconds),
            ):
                if ours != theirs:
                    raise UserError(f"bundles that differ in {what} ({ours} and {theirs}) cannot answer together.")
        if draws and not all(any(_dropouts(bundle.model)) for bundle in bundles):
            raise UserError("draws: this network has no dropout; its uncertainty takes several bundles.")
        self.classes, self.single_label, self.reads = first.classes, first.single_label, first.reads
        self._ancestries = [bundle.ancestry for bundle in bundles if bundle.ancestry is not None]
        self.cuts = tuple(dict.fromkeys(cut for bundle in bundles for cut in bundle.cuts))

    @property
    def notice(self) -> str:
        """What has to stand on everything that is said with it."""
        return " ".join(dict.fromkeys(bundle.notice for bundle in self.bundles))

    @property
    def alphas(self) -> tuple[float, ...]:
        """Shares that sets can be asked for; none of several bundles or dropout: no threshold fits their mean."""
        return () if self.draws or len(self.bundles) > 1 else tuple(sorted(self.bundles[0].conformal))

    def predict(self, records: Iterable[Record | str | Path], alpha: float = 0.1) -> Prediction:
        """Answer for records, or for files with records.

        Parameters
        ----------
        records : iterable of Record, str or Path
        alpha : float
            Expected share of true statements that the sets may miss: one of `alphas`.

        Raises
        ------
        UserError
            For the first record that cannot be read, or lacks what the model needs.
        """
        return self.answer([self.prepare(record) for record in records], alpha)

    def prepare(self, record: Record | str | Path) -> Prepared:
        """One record, or file with one, as the model reads it.

        Raises
        ------
        UserError
            As `predict`.
        """
        if isinstance(record, Record):
            return prepare(record, self.reads, cuts=self.cuts)
        return read_prepared(record, self.reads, cuts=self.cuts)[1]

    def explain(
        self,
        record: Record | Prepared | str | Path,
        label: str | None = None,
        method: Method = integrated_gradients,
        *,
        judge: bool = False,
    ) -> Explanation:
        """Say what one class of a record rests on, by default the most probable one; see `predict.explaining.explain`.

        ``load_bundle(path).explain("a.hea", "MI").by_lead`` is the share of each lead.
        """
        return explain(self, record, label, method, judge=judge)

    def answer(self, prepared: Sequence[Prepared], alpha: float = 0.1) -> Prediction:
        """Answer for records that are prepared."""
        if self.alphas and alpha not in self.alphas:
            known = ", ".join(f"{a:g}" for a in self.alphas)
            raise UserError(f"alpha={alpha:g}: this bundle has thresholds for {known}.")
        counts = [len(item.signal) for item in prepared]
        shape = (0, len(self.reads.leads), self.reads.samples)
        signal = np.concatenate([np.zeros(shape, np.int16), *(item.signal for item in prepared)])
        members, by_window, familiar = [], [], []
        for bundle in self.bundles:
            for raw, distance in self._passes(bundle, signal):
                of_record = _over_windows(raw, counts, bundle.reads.aggregate)
                members.append(bundle.calibration.transform(of_record))
                by_window.append(bundle.calibration.transform(raw))
                if distance is not None and bundle.familiarity is not None:
                    middle = [np.median(part) for part in _parts(distance, counts)]
                    familiar.append(bundle.familiarity.share(np.array(middle)))
        p = np.stack(members)
        mean = p.mean(axis=0)
        share = np.mean(familiar, axis=0) if familiar else np.full(len(prepared), np.nan)
        in_training = tuple(self._in_training(item) for item in prepared)
        threshold = self.bundles[0].conformal[alpha] if self.alphas else 0.0
        return Prediction(
            sources=tuple(item.source for item in prepared),
            probabilities=mean,
            intervals=self._intervals(p),
            sets=tuple(statement_sets(mean, threshold, self.classes)),
            alpha=alpha if self.alphas else None,
            entropy=entropy_parts(p, self.single_label),
            familiar=share,
            windows=tuple(_parts(np.mean(by_window, axis=0), counts)),
            start_s=tuple(item.start_s for item in prepared),
            in_training=in_training,
            cautions=tuple(
                (*self._seen(item, trained), *item.cautions, *_unlike(s))
                for item, trained, s in zip(prepared, in_training, share, strict=True)
            ),
        )

    def _in_training(self, item: Prepared) -> bool | None:
        """Whether a model was trained on a record; None where no bundle says."""
        if not self._ancestries:
            return None
        return any(bool(ancestry.in_training(item.digests).any()) for ancestry in self._ancestries)

    def _seen(self, item: Prepared, trained: bool | None) -> tuple[str, ...]:
        """What to say of a record that a model has seen."""
        if trained:
            return ("this record was in the training data",)
        if any(ancestry.in_fitting(item.digests).any() for ancestry in self._ancestries):
            return ("the calibration was fitted on this record",)
        return ()

    def _passes(self, bundle: Bundle, signal: NDArray[np.int16]) -> Iterator[tuple[Float, Float | None]]:
        """Uncalibrated probabilities of windows, once or with `draws` dropout masks, and their distances."""
        if not self.draws:
            yield forward(bundle, signal)
            return
        for draw in range(self.draws):
            with _dropping(bundle.answering, self.seed + draw):
                yield forward(bundle, signal)[0], None

    def _intervals(self, p: Float) -> Float:
        """Of the mean over members (M, n, K): variances within and between members add up, as logits."""
        from scipy.special import expit

        if any(bundle.band is None for bundle in self.bundles):
            return np.full((*p.shape[1:], 2), np.nan)
        bands = [bundle.band for bundle in self.bundles for _ in range(max(self.draws, 1))]
        z, deviation = zip(*(logits_and_deviation(q, band) for q, band in zip(p, bands, strict=True)), strict=True)  # type: ignore[arg-type]
        spread = np.sqrt(np.square(deviation).mean(axis=0) + np.var(z, axis=0))
        centre, _ = logits_and_deviation(p.mean(axis=0), bands[0])  # type: ignore[arg-type]
        return np.stack([expit(centre - NORMAL * spread), expit(centre + NORMAL * spread)], axis=-1)


def forward(bundle: Bundle, signal: NDArray[np.int16]) -> tuple[Float, Float | None]:
    """Uncalibrated probabilities (n, K) of windows (n, L, T) in µV, and their distance from the training records."""
    if bundle.familiarity is None:
        return _forward(bundle, signal, None)[0], None
    p, features = _forward(bundle, signal, last_layer(bundle.answering, len(bundle.classes)))
    return p, bundle.familiarity.distance(features)


def features_of(bundle: Bundle, signal: NDArray[np.int16]) -> Float:
    """What the last layer reads of windows (n, L, T) in µV, the mean over all that it is given of each: (n, D)."""
    return _forward(bundle, signal, last_layer(bundle.answering, len(bundle.classes)))[1]


@torch.inference_mode()
def _forward(bundle: Bundle, signal: NDArray[np.int16], layer: nn.Linear | None) -> tuple[Float, Float]:
    reads, classes = bundle.reads, len(bundle.classes)
    activation = outputs.softmax if bundle.single_label else outputs.sigmoid
    device = next(bundle.answering.parameters()).device
    p, features = [np.zeros((0, classes))], [np.zeros((0, layer.in_features if layer else 0))]
    with _reading(layer) as read:
        for first in range(0, len(signal), AT_ONCE):
            x = torch.from_numpy(signal[first : first + AT_ONCE]).to(device, torch.float32).mul_(1e-3)
            logits = apply_to_windows(bundle.answering, x, reads.window, reads.stride)
            q = activation(logits.double().cpu(), bundle.temperature)
            p.append(aggregate_windows(q, reads.aggregate).numpy())
            if not np.isfinite(p[-1]).all():
                raise UserError(
                    "the network of this bundle answers with values that are not finite; it cannot be used."
                )
            if layer is not None:
                features.append(read.pop().reshape(len(x), -1, layer.in_features).mean(dim=1).double().cpu().numpy())
    return np.concatenate(p), np.concatenate(features)


@contextmanager
def _reading(layer: nn.Linear | None) -> Iterator[list[Tensor]]:
    """What a layer is given, while it is watched."""
    read: list[Tensor] = []
    if layer is None:
        yield read
        return
    handle = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    try:
        yield read
    finally:
        handle.remove()


def _dropouts(model: nn.Module) -> Iterator[nn.Module]:
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
    return (m for m in model.modules() if isinstance(m, kinds) and m.p > 0)


@contextmanager
def _dropping(model: nn.Module, seed: int) -> Iterator[None]:
    """Dropout at work in a model that is otherwise evaluated, with masks of a seed."""
    layers = list(_dropouts(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in layers:
            layer.train()
        try:
            yield
        finally:
            for layer in layers:
                layer.eval()


def _over_windows(p: Float, counts: Sequence[int], aggregate: str) -> Float:
    """Windows (sum of counts, K) to records (n, K)."""
    parts = [aggregate_windows(part, aggregate, axis=0) for part in _parts(p, counts)]
    return np.stack(parts) if parts else np.zeros((0, p.shape[1]))


def _parts(values: Float, counts: Sequence[int]) -> list[Float]:
    return np.split(values, np.cumsum(counts)[:-1]) if counts else []


def _unlike(share: float) -> tuple[str, ...]:
    if not share <= UNLIKE:
        return ()
    return (f"unlike the training data: {share:.1%} of the calibration records are as far from it",)
