"""`einthoven explain [BUNDLE] FILE ...`: draw which parts of the ECG a prediction rests on, and test the drawing."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from einthoven.build import build, trust_named, unknown_name
from einthoven.errors import UserError
from einthoven.machine import limit_threads
from einthoven.report.explanation import check_suffix
from einthoven.terminal.conf_folders import conf_folder, conf_folders, load_option, option_files
from einthoven.terminal.display import bar, errors
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser, bundles_and_files, reading
from einthoven.terminal.record_files import expand

if TYPE_CHECKING:
    from einthoven.evaluation.occlusion import FindWaves
    from einthoven.evaluation.saliency import Method
    from einthoven.predict.explaining import Explanation

METHOD = "integrated_gradients"
"""The method without ``--method``."""


def main(arguments: Sequence[str]) -> int:
    """Draw explanations of files, and print how far the drawings can be trusted.

    ``--config-dir`` names a folder with the user's own methods, as yaml files in its folder ``explanation``. The exit
    code is 1 if there is a file without an explanation.
    """
    folders, others = conf_folders(conf_folder(), arguments)
    options = _options(others)
    check_output(f"--output {options.output}", options.output)
    check_suffix(options.output)

    # Imported only now: a mistake in the arguments is answered without waiting for torch.
    from einthoven.predict import load_bundle
    from einthoven.predict.delineator import load_delineator
    from einthoven.predict.explaining import find_waves, wave_shares
    from einthoven.terminal.explanation_output import draw_explanations, show_explanations

    limit_threads()
    bundles, paths = bundles_and_files(options.paths, "explain")
    predictor = load_bundle(*bundles)
    files = expand(paths)
    delineator = load_delineator()
    find_delineated = partial(find_waves, delineator, predictor.input_format.leads)
    method = _with_waves(method_named(folders, options.method, predictor.input_format.fs), find_delineated)

    if len(files) > 1 and options.output.suffix.lower() != ".pdf":
        raise UserError(f"--output {options.output}: {len(files)} files take pages; expected a name that ends in .pdf.")
    if options.label is not None and options.label not in predictor.classes:
        raise UserError(unknown_name(f"--class {options.label}", options.label, predictor.classes))

    explanations: list[tuple[Path, Explanation]] = []
    reasons = []
    with bar("explaining", errors) as progress:
        for done, file in enumerate(files, 1):
            try:
                record, prepared = predictor.read(file, **reading(options))
                prepared = predictor.examine(record, prepared)
                explanation = predictor.explain(prepared, options.label, method, judge=True)
                by_wave = wave_shares(
                    delineator, explanation.signal, explanation.fs, explanation.leads, explanation.relevance
                )
                explanations.append((file, replace(explanation, by_wave=by_wave)))
            except UserError as error:
                reasons.append(str(error))
            progress(done, len(files))

    if explanations:
        draw_explanations(explanations, options.method, predictor.footnotes, options.output)
        show_explanations(explanations, predictor.footnotes, options.output)
    if reasons:
        errors.print(f"There is no explanation of {len(reasons)} of {len(files)} files:")
        for reason in reasons:
            errors.print(f"  {reason}", soft_wrap=True)
    return 1 if reasons else 0


def method_named(folders: Sequence[Path], name: str, fs: float) -> Method:
    """Build a method of explanation from ``explanation/NAME.yaml`` in one of the configuration folders.

    A method may refer to `fs`, the sampling frequency of the records in Hz. The user named the folders, so the code of
    the yaml is trusted.
    """
    from omegaconf import OmegaConf

    files = option_files(folders, "explanation")
    if name not in files:
        raise UserError(unknown_name(f"--method {name}", name, sorted(files)))
    config = OmegaConf.create({"data": {"fs": fs}, "explanation": load_option(files[name])})
    trust_named(config)
    return build(config.explanation)


def _with_waves(method: Method, find_delineated: FindWaves) -> Method:
    """Return a method that takes the waves from the delineator, if it takes waves at all."""
    if "find_waves" not in signature(method).parameters:
        return method
    options: dict[str, Any] = {"find_waves": find_delineated}
    return partial(method, **options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("explain")
    parser.add_argument("paths", nargs="+", metavar="FILE")
    parser.add_argument("--method", default=METHOD)
    parser.add_argument("--class", dest="label")
    parser.add_argument("--output", type=Path, default=Path("explanation.pdf"))
    parser.add_reading()
    return parser.read(arguments)
