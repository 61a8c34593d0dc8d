"""`einthoven predict [BUNDLE] FILE ...`: calibrated probabilities for files, as text, JSON or CSV."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from einthoven.errors import UserError
from einthoven.machine import limit_threads
from einthoven.terminal.display import bar, errors
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser, bundles_and_files, positive_seconds, reading
from einthoven.terminal.record_files import expand

DEFAULT_ALPHA = 0.1
"""Share of the true labels that the sets of a calibrated bundle miss, if the user states none."""

if TYPE_CHECKING:
    from einthoven.terminal.prediction_output import Output


def main(arguments: Sequence[str]) -> int:
    """Predict for files, and print the answers. The exit code is 0 if each file has a prediction, 1 otherwise."""
    options = _options(arguments)
    if options.pdf is not None:
        check_output(f"--pdf {options.pdf}", options.pdf)

    # Imported only now: a mistake in the arguments is answered without waiting for torch.
    from einthoven.predict import load_bundle
    from einthoven.predict.answers import answers
    from einthoven.predict.delineator import load_delineator
    from einthoven.terminal.prediction_output import OUTPUTS

    limit_threads()
    bundles, paths = bundles_and_files(options.paths, "predict")
    predictor = load_bundle(*bundles, draws=options.draws, seed=options.seed, without=_lead(options.without))
    alpha = _choose_alpha(options.alpha, predictor.alphas)
    files = expand(paths)
    delineator = load_delineator() if options.measurements else None

    output: Output = OUTPUTS[options.output](predictor, options.pdf, options.timeline, options.measurements)
    with bar("predicting", errors) as progress, output:
        for answer in answers(
            predictor,
            files,
            reading(options),
            alpha,
            options.stride,
            progress,
            doctor=options.doctor,
            delineator=delineator,
        ):
            output.add(answer)
    return 1 if output.refused else 0


def _choose_alpha(stated: float | None, alphas: Sequence[float]) -> float:
    """Return the share of true labels that the sets may miss. A bundle without calibration has no sets."""
    alpha = DEFAULT_ALPHA if stated is None else stated
    if alpha in alphas or (stated is None and not alphas):
        return alpha
    there_are = f"thresholds for {', '.join(f'{known:g}' for known in alphas)}"
    if not alphas:
        there_are = "no thresholds; einthoven evaluate run=… makes those of a run"
    raise UserError(f"--alpha {alpha:g}: this bundle has {there_are}.")


def _lead(name: str | None) -> str | None:
    """Return the usual name of the lead that the records lack."""
    from einthoven.functional.leads import LEADS, canonical_lead

    if name is None:
        return None
    lead = canonical_lead(name)
    if lead is None or lead[1] < 0:
        raise UserError(f"--without {name}: no such lead; expected one of {', '.join(LEADS)}.")
    return lead[0]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("predict")
    parser.add_argument("paths", nargs="+", metavar="FILE")
    formats = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        formats.add_argument(f"--{name}", dest="output", action="store_const", const=name, default="text")
    parser.add_argument("--pdf", type=Path)
    parser.add_argument("--no-doctor", dest="doctor", action="store_false")
    parser.add_argument("--no-measurements", dest="measurements", action="store_false")
    parser.add_argument("--without", metavar="LEAD")
    parser.add_argument("--alpha", type=float)
    parser.add_argument("--timeline", action="store_true")
    parser.add_argument("--stride", type=positive_seconds)
    parser.add_argument("--draws", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_reading()
    return parser.read(arguments)
