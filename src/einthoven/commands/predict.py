"""`einthoven predict [BUNDLE] FILE ...`: calibrated probabilities of files, for people or for machines."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from einthoven.data.doctor import SEVERITIES, Finding, examine_records
from einthoven.data.formats.record import Record
from einthoven.errors import UserError
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.predictor import AT_ONCE
from einthoven.predict.signal import Prepared, read_prepared
from einthoven.terminal.display import bar, errors
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser, bundles_and_files, reading
from einthoven.terminal.prediction_output import OUTPUTS, Answer, Output
from einthoven.terminal.record_files import expand

WORTH_TELLING = SEVERITIES[SEVERITIES.index("caution") :]
MOST_WORKERS = 4  # more would wait for Python's one lock
# A model that reads two leads is given two; of invalid samples, the cautions of the reading tell.
OF_THE_READING = ("missing_leads", "unmeasurable", "invalid")


@dataclass(frozen=True)
class _Read:
    """One file: what the model will see of it, or why it will not."""

    file: Path
    record: Record | None = None
    prepared: Prepared | None = None
    refused: str | None = None


def predict(arguments: Sequence[str]) -> bool:
    """Answer for files, and show it.

    Parameters
    ----------
    arguments : sequence of str
        As on the command line, after the verb.

    Returns
    -------
    bool
        Whether every file was answered.

    Raises
    ------
    UserError
        If an option is wrong, a bundle cannot be loaded, or a pattern or folder names no file.
    """
    options = _options(arguments)
    if options.pdf is not None:
        check_output(f"--pdf {options.pdf}", options.pdf)
    named, paths = bundles_and_files(options.paths, "predict")
    predictor = load_bundle(*named, draws=options.draws, seed=options.seed)
    if predictor.alphas and options.alpha not in predictor.alphas:
        known = ", ".join(f"{alpha:g}" for alpha in predictor.alphas)
        raise UserError(f"--alpha {options.alpha:g}: this bundle has thresholds for {known}.")
    files = expand(paths)
    output: Output = OUTPUTS[options.output](predictor, options.pdf, options.timeline)
    complete = True
    with bar("predicting", errors) as progress, output:
        found = answers(predictor, files, reading(options), options.alpha, options.stride, progress, options.doctor)
        for answer in found:
            complete &= answer.refused is None
            output.add(answer)
    return complete


def answers(
    predictor: Predictor,
    files: Sequence[Path],
    reading: dict[str, Any],
    alpha: float = 0.1,
    stride: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    doctor: bool = True,
) -> Iterator[Answer]:
    """The answer for each file, in order; groups of files are read, examined and answered side by side, a core each."""
    groups = [files[first : first + AT_ONCE] for first in range(0, len(files), AT_ONCE)]
    threads, done = torch.get_num_threads(), 0
    # dropout masks come from torch's one generator: their order must not depend on what runs beside
    workers = 1 if predictor.draws else max(min(threads, len(groups), MOST_WORKERS), 1)
    free = SimpleQueue[Predictor]()
    for worker in range(workers):
        free.put(deepcopy(predictor) if worker else predictor)

    def answer(group: Sequence[Path]) -> list[Answer]:
        own = free.get()
        try:
            return _answers(own, _read(group, own, reading, stride, doctor), alpha)
        finally:
            free.put(own)

    share = threads // workers
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    try:
        with pool, threadpool_limits(share, "blas"):  # NumPy's own threads spin while they wait
            waiting, coming = iter(groups), deque[Future[list[Answer]]]()
            while True:
                coming.extend(pool.submit(answer, group) for group in islice(waiting, 1 + workers - len(coming)))
                if not coming:
                    break
                answered = coming.popleft().result()
                yield from answered
                done += len(answered)
                if progress is not None:
                    progress(done, len(files))
    finally:
        torch.set_num_threads(threads)


def _answers(predictor: Predictor, read: Sequence[_Read], alpha: float) -> list[Answer]:
    """The answers for files that were read."""
    prediction, rows = predictor.answer([item.prepared for item in read if item.prepared is not None], alpha), count()
    return [
        Answer(item.file, refused=item.refused)
        if item.prepared is None
        else Answer(item.file, item.record, prediction, next(rows))
        for item in read
    ]


def _read(
    files: Sequence[Path], predictor: Predictor, reading: dict[str, Any], stride: float | None, doctor: bool
) -> list[_Read]:
    """Read, prepare and examine some files."""
    read = []
    for file in files:
        try:
            record, prepared = read_prepared(file, predictor.reads, stride, predictor.cuts, **reading)
            read.append(_Read(file, record, prepared))
        except UserError as error:
            read.append(_Read(file, refused=str(error)))
    good = [item for item in read if item.record is not None and doctor]
    found = dict(zip((id(item) for item in good), examine_records([i.record for i in good if i.record]), strict=True))
    return [_with_cautions(item, found[id(item)]) if id(item) in found else item for item in read]


def _with_cautions(item: _Read, findings: Sequence[Finding]) -> _Read:
    assert item.prepared is not None
    told = tuple(
        f"{finding.code}: {finding.evidence}"
        for finding in findings
        if finding.severity in WORTH_TELLING and finding.code not in OF_THE_READING
    )
    return replace(item, prepared=replace(item.prepared, cautions=(*item.prepared.cautions, *told)))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("predict")
    parser.add_argument("paths", nargs="+", metavar="FILE")
    form = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        form.add_argument(f"--{name}", dest="output", action="store_const", const=name, default="table")
    parser.add_argument("--pdf", type=Path)
    parser.add_argument("--no-doctor", dest="doctor", action="store_false")
    parser.add_argument("--alpha", type=float, default=0.1)
    parser.add_argument("--timeline", action="store_true")
    parser.add_argument("--stride", type=float)
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_reading()
    return parser.parse_args(list(arguments))


def export(arguments: Sequence[str]) -> None:
    """Write a bundle as one file for other runtimes: ``.pt2`` or ``.onnx``.

    Parameters
    ----------
    arguments : sequence of str
        As on the command line, after the verb.

    Raises
    ------
    UserError
        If the bundle cannot be loaded, or the file not be written.
    """
    parser = Parser("export")
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(list(arguments))
    check_output(f"export {options.file}", options.file)
    from einthoven.predict.export import export as write
    from einthoven.terminal.display import console, say

    (bundle,) = load_bundle(*([options.bundle] if options.bundle else [])).bundles
    write(bundle, options.file)
    reads = bundle.reads
    say(
        f"{options.file}: mV (n, {len(reads.leads)}, {reads.samples}) at {reads.fs:g} Hz, leads "
        f"{' '.join(reads.leads)} -> probabilities (n, {len(bundle.classes)}): {' '.join(bundle.classes)}"
    )
    console.print(bundle.notice, soft_wrap=True)
