"""The delineator: a network that gives the probability of P, QRS and T at each sample.

One comes with the package. It was trained on generated ECGs by ``bench/make_delineator.py``. A run of ``einthoven train
task=delineation`` also writes one into its folder. Like a bundle, it is a folder of a description (JSON) and weights
(safetensors), with the SHA-256 of both, and it is checked before anything is built from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from einthoven.errors import UserError
from einthoven.functional.conform import fill_gaps, resample
from einthoven.functional.leads import LEADS
from einthoven.models.frontend import Classifier
from einthoven.predict.description import check_networks, check_reads
from einthoven.predict.limits import check_activations, one_sentence
from einthoven.predict.network import build_classifier, fold_batch_norm, set_weights
from einthoven.predict.sealed_folder import FORMAT, WEIGHTS, read_sealed_folder, replace_folder, seal_description
from einthoven.predict.signal import InputFormat

DESCRIPTION = "delineator.json"
FOLDER = "delineator"
"""Name of the folder of a delineator in the folder of its run."""

PACKAGED = Path(__file__).parents[1] / "assets" / FOLDER
"""The delineator of the package."""

WAVES = ("P", "QRS", "T")
"""What the delineator finds, in the order of its probabilities."""

SAMPLES_AT_ONCE = 128_000
"""Samples of a lead that pass through the network at once. It limits the memory."""


@dataclass(frozen=True)
class Delineator:
    """A network that delineates, and what it reads.

    Attributes
    ----------
    model : Classifier
        mV ``[B, leads, T]`` to logits ``[B, 3, T]``.
    parts : dict
        Classes and options of the frontend and the network, for `einthoven.predict.network.build`.
    input_format : InputFormat
        Its window is the length of a training record. The network also reads other lengths.
    provenance : dict
        ``trained_on`` (a sentence), ``metrics``, ``date``, ``versions``, ``data``, ``config``.
    sha256 : str
        Hash of the delineator; empty if it was not read from a folder.
    """

    model: Classifier
    parts: Mapping[str, Any]
    input_format: InputFormat
    provenance: Mapping[str, Any]
    sha256: str = ""

    @cached_property
    def inference_model(self) -> Classifier:
        """A faster copy of `model` with the same outputs (`einthoven.predict.network.fold_batch_norm`)."""
        return fold_batch_norm(self.model)

    @property
    def notice(self) -> str:
        """The sentence that must accompany every delineation."""
        return f"Delineator trained on {self.provenance['trained_on']}. Not for diagnosis."

    def probabilities(
        self, signals: NDArray[np.floating], fs: float, leads: Sequence[str] = LEADS
    ) -> NDArray[np.float32]:
        """Return the probability of P, QRS and T at each sample.

        A signal at another sampling frequency is resampled for the network. The probabilities are interpolated linearly
        back to the samples of the signal. Samples that are not finite are filled with a straight line. A lead that is
        missing, or has no finite sample, is 0 mV for the network, as a lost lead in its training.

        Parameters
        ----------
        signals : ndarray, shape (n, L, T)
            In mV.
        fs : float
            Sampling frequency in Hz.
        leads : sequence of str
            Names of the L leads.

        Returns
        -------
        ndarray of float32, shape (n, 3, T)

        Raises
        ------
        UserError
            If the shape does not fit the leads, or no lead is known.
        """
        if signals.ndim != 3 or signals.shape[1] != len(leads):
            raise UserError(
                f"delineator: signals of the shape {signals.shape} with {len(leads)} leads; expected (n, leads, T)."
            )
        known = [lead for lead in self.input_format.leads if lead in leads]
        if not known:
            raise UserError(
                f"delineator: none of the leads {' '.join(leads)} is known; expected some of "
                f"{' '.join(self.input_format.leads)}."
            )
        samples = signals.shape[2]
        per_batch = max(1, SAMPLES_AT_ONCE // max(samples, 1))
        result = np.zeros((len(signals), len(WAVES), samples), np.float32)
        for first in range(0, len(signals), per_batch) if samples else ():
            part = slice(first, first + per_batch)
            x = self._prepare(signals[part], fs, leads)
            with torch.inference_mode():
                p = self.inference_model(torch.from_numpy(x)).sigmoid().numpy()
            result[part] = _at_samples(p, samples, fs, self.input_format.fs)
        return result

    def _prepare(self, signals: NDArray[np.floating], fs: float, leads: Sequence[str]) -> NDArray[np.float32]:
        """Return the signals with the leads and at the sampling frequency of the network."""
        # Filling and resampling work on rows, whatever they are.
        filled = fill_gaps(signals.reshape(-1, signals.shape[2])).astype(np.float32)
        rows = resample(filled, fs, self.input_format.fs)
        resampled = rows.reshape(*signals.shape[:2], -1)
        x = np.zeros((len(signals), len(self.input_format.leads), resampled.shape[2]), np.float32)
        for row, lead in enumerate(self.input_format.leads):
            if lead in leads:
                x[:, row] = resampled[:, list(leads).index(lead)]
        return x

    def save(self, folder: Path, half: bool = False) -> None:
        """Write the delineator. An existing folder is replaced as a whole.

        Parameters
        ----------
        folder : Path
        half : bool
            Write the parameters in half precision. They are read as single precision.
        """
        weights = {}
        parameters = {name for name, _ in self.model.named_parameters()}
        for name, value in self.model.state_dict().items():
            copy = value.detach().to("cpu", copy=True).contiguous()
            weights[name] = copy.half() if half and name in parameters else copy
        content = safetensors.torch.save(weights)
        reads = {**asdict(self.input_format), "leads": list(self.input_format.leads), "unit": "mV"}
        description = {
            "format": FORMAT,
            "kind": FOLDER,
            "notice": self.notice,
            "provenance": dict(self.provenance),
            "model": dict(self.parts),
            "reads": reads,
            "waves": list(WAVES),
        }
        replace_folder(folder, {WEIGHTS: content, DESCRIPTION: seal_description(description, content)})


def load_delineator(path: str | Path | None = None) -> Delineator:
    """Load a delineator.

    Parameters
    ----------
    path : str or Path, optional
        Folder of a delineator, or of a run of ``task=delineation``. By default the delineator of the package.

    Returns
    -------
    Delineator
        ``load_delineator().probabilities(signals, fs)`` is (n, 3, T).

    Raises
    ------
    UserError
        If there is no delineator, or it is damaged, of another format, or more than a delineator contains.
    """
    folder = PACKAGED if path is None else _find(Path(path))
    with read_sealed_folder(folder, DESCRIPTION, FOLDER) as sealed:
        description = sealed.description
        input_format = check_reads(description["reads"])
        check_networks(description["model"])
        check_activations(sealed.shapes, input_format)
        model = build_classifier(description["model"], sealed.shapes)
        set_weights(model, sealed.load_tensors())
        _check_output(model, input_format)
        provenance = description["provenance"]
        if not isinstance(provenance, dict) or not isinstance(provenance.get("trained_on"), str):
            raise UserError(f"provenance is {short_repr(provenance)}; expected where the delineator comes from.")
        return Delineator(model, description["model"], input_format, provenance, sealed.sha256)


def _find(path: Path) -> Path:
    """Return the folder of a delineator, from its own path or the path of its run."""
    for folder in (path, path / FOLDER):
        if (folder / DESCRIPTION).is_file():
            return folder
    raise UserError(
        f"{path}: no delineator there; expected a folder with {DESCRIPTION}, or that of a run of task=delineation."
    )


def _check_output(model: Classifier, input_format: InputFormat) -> None:
    """Refuse a network that does not give three finite numbers for each sample."""
    x = torch.zeros((1, len(input_format.leads), input_format.window))
    with torch.inference_mode(), one_sentence("its network cannot read a record"):
        logits = model(x)
    expected = (1, len(WAVES), input_format.window)
    if not isinstance(logits, torch.Tensor) or logits.shape != expected:
        output = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"its network answers a record with {output}; expected {expected}: P, QRS and T at each sample."
        )
    if not bool(torch.isfinite(logits).all()):
        raise UserError("its network answers with values that are not finite.")


def _at_samples(p: NDArray[np.float32], samples: int, fs: float, own_fs: float) -> NDArray[np.float32]:
    """Interpolate probabilities (n, 3, T') at `own_fs` to `samples` samples at `fs`. The ends are held."""
    if fs == own_fs:
        return p[:, :, :samples]
    last = p.shape[2] - 1
    position = np.minimum(np.arange(samples) * (own_fs / fs), last)
    left = np.minimum(position.astype(np.int64), max(last - 1, 0))
    right = np.minimum(left + 1, last)
    share = (position - left).astype(np.float32)
    return p[:, :, left] * (1 - share) + p[:, :, right] * share
