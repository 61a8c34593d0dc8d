"""Embeddings of records: what the head of a trained network reads, for each record, window or time step.

A file goes the same way as in a prediction: read, resampled, rounded to int16 µV, cut into windows of the record length
of the training, and then through the same model, without its head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from einthoven.errors import UserError
from einthoven.functional.conform import window_starts
from einthoven.functional.windows import apply_to_windows
from einthoven.models.encoder import embed, embed_tokens, token_starts, without_head
from einthoven.models.frontend import Classifier
from einthoven.predict.bundle import Bundle
from einthoven.predict.forward import RECORDS_PER_BATCH
from einthoven.predict.parallel import map_groups, worker_count
from einthoven.predict.signal import InputFormat, Prepared, read_prepared

Float32 = NDArray[np.float32]

ROWS = ("record", "window", "token")
"""What a row of the result is."""


@dataclass(frozen=True)
class Encoder:
    """A trained network without its head, and what it reads.

    Attributes
    ----------
    model : Classifier
        In evaluation mode.
    input_format : InputFormat
    kind : str
        What `sha256` is the hash of: ``bundle`` or ``weights``. ``random`` for a random encoder, which has no hash.
    sha256 : str

    Raises
    ------
    UserError
        If the network has no head behind other stages.
    """

    model: Classifier
    input_format: InputFormat
    kind: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuse a network without a head."""
        without_head(self.model.network)

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> Encoder:
        """Return the encoder of a bundle."""
        return cls(bundle.inference_model, bundle.input_format, "bundle", bundle.sha256)

    @torch.inference_mode()
    def embed(self, x: Tensor) -> Tensor:
        """Return the embeddings ``[B, D]`` of signals ``[B, leads, T]`` in mV: the mean over the windows of each.

        Raises
        ------
        UserError
            If a value is not finite, or a signal is shorter than a window.
        """
        by_window = apply_to_windows(partial(embed, self.model), x, self.input_format.window, self.input_format.stride)
        embeddings = by_window.mean(dim=1)
        _check_finite(embeddings)
        return embeddings

    @torch.inference_mode()
    def embed_tokens(self, x: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
        """Return the tokens ``[B, N, D]`` of signals ``[B, leads, T]`` in mV, and their starts ``(N,)`` in seconds.

        The tokens of overlapping windows follow each other, so that a time can occur more than once.

        Raises
        ------
        UserError
            If the network has no tokens, or as in `embed`.
        """
        window = self.input_format.window
        by_window = apply_to_windows(partial(embed_tokens, self.model), x, window, self.input_format.stride)
        _check_finite(by_window)
        in_window = np.array(token_starts(self.model, window, by_window.shape[2]))
        starts = window_starts(x.shape[-1] - window, self.input_format.stride, "slide")
        samples = (starts[:, None] + in_window).reshape(-1)
        return by_window.flatten(1, 2), samples / self.input_format.fs


def _check_finite(values: Tensor) -> None:
    # Device-to-host sync: once per batch.
    if not bool(torch.isfinite(values).all()):
        raise UserError("the network of this model gives embeddings that are not finite; it cannot be used.")


@dataclass(frozen=True)
class Embedded:
    """The embeddings of one file, or the reason why there are none.

    Attributes
    ----------
    file : Path
    values : ndarray of float32, shape (R, D)
        One row for the record, for each window, or for each token.
    window : ndarray of int64, shape (R,)
        Number of the window of each row. Of a row for the record: the number of its windows.
    token : ndarray of int64, shape (R,)
        Number of the token in its window; 0 for other rows.
    start_s : ndarray of float64, shape (R,)
        Start of the window or the token in the record, in seconds.
    refused : str or None
    """

    file: Path
    values: Float32
    window: NDArray[np.int64]
    token: NDArray[np.int64]
    start_s: NDArray[np.float64]
    refused: str | None = None


def embed_files(
    encoder: Encoder,
    files: Sequence[Path],
    reading: dict[str, Any],
    rows: str = "record",
    stride: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Embedded]:
    """Embed files, and yield one result for each file, in order.

    Parameters
    ----------
    encoder : Encoder
    files : sequence of Path
    reading : dict
        Keyword arguments of `read_record`, for files that do not state their sampling frequency, unit or leads.
    rows : {'record', 'window', 'token'}
        What gets a row. The row of a record is the mean over its windows.
    stride : float, optional
        Seconds between two windows of a long record.
    progress : callable, optional
        Called with the number of files that are done, and the number of all files.

    Raises
    ------
    UserError
        If the network does not have such rows.
    """
    encoders = [encoder, *(deepcopy(encoder) for _ in range(worker_count(len(files)) - 1))]

    def embed_group(own_encoder: Encoder, group: Sequence[Path]) -> list[Embedded]:
        return _embed_group(own_encoder, group, reading, rows, stride)

    yield from map_groups(files, encoders, embed_group, progress)


def _embed_group(
    encoder: Encoder, files: Sequence[Path], reading: dict[str, Any], rows: str, stride: float | None
) -> list[Embedded]:
    """Read some files, and embed their windows in batches."""
    prepared: dict[Path, Prepared] = {}
    reasons: dict[Path, str] = {}
    for file in files:
        try:
            _, prepared[file] = read_prepared(file, encoder.input_format, stride, **reading)
        except UserError as error:
            reasons[file] = str(error)

    # The windows of all files pass through the network as one array.
    values: Float32 = np.zeros((0, 1, 0), np.float32)
    token_start_s = np.zeros(1)
    if prepared:
        signal = np.concatenate([record.signal for record in prepared.values()])
        values, token_start_s = _embed_windows(encoder, signal, rows)

    results = {}
    first = 0
    for file, record in prepared.items():
        count = len(record.signal)
        results[file] = _result(file, record, values[first : first + count], token_start_s, rows)
        first += count
    for file, reason in reasons.items():
        none = np.zeros(0, np.int64)
        results[file] = Embedded(file, np.zeros((0, 0), np.float32), none, none, np.zeros(0), reason)
    return [results[file] for file in files]


def _embed_windows(encoder: Encoder, signal: NDArray[np.int16], rows: str) -> tuple[Float32, NDArray[np.float64]]:
    """Return the embeddings (n, N, D) of windows in µV (n, L, T), and the starts (N,) in seconds of their N tokens.

    Without tokens, N is 1.
    """
    device = next(encoder.model.parameters()).device
    parts = []
    token_start_s = np.zeros(1)
    for first in range(0, len(signal), RECORDS_PER_BATCH):
        microvolts = torch.from_numpy(signal[first : first + RECORDS_PER_BATCH])
        x = microvolts.to(device, torch.float32).mul_(1e-3)
        if rows == "token":
            tokens, token_start_s = encoder.embed_tokens(x)
        else:
            tokens = encoder.embed(x).unsqueeze(1)
        # Device-to-host sync: once per batch.
        parts.append(tokens.cpu().numpy())
    return np.concatenate(parts), token_start_s


def _result(file: Path, record: Prepared, values: Float32, token_start_s: NDArray[np.float64], rows: str) -> Embedded:
    """Return the rows of one file with W windows: values (W, N, D), and the starts of the N tokens in a window."""
    windows, tokens, dims = values.shape
    if rows == "record":
        count = np.array([windows])
        return Embedded(file, values[:, 0].mean(axis=0)[None], count, np.zeros(1, np.int64), np.zeros(1))
    return Embedded(
        file,
        values.reshape(windows * tokens, dims),
        np.repeat(np.arange(windows), tokens),
        np.tile(np.arange(tokens), windows),
        (record.start_s[:, None] + token_start_s).reshape(-1),
    )
