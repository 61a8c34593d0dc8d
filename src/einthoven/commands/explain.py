"""`einthoven explain [BUNDLE] FILE ...`: what an answer rests on, drawn on the ECG and judged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from einthoven.build import build, trust_named, unknown_name
from einthoven.errors import UserError
from einthoven.evaluation.saliency import Method
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.explaining import Explanation
from einthoven.predict.signal import read_prepared
from einthoven.terminal.conf_folders import conf_folders, option_files
from einthoven.terminal.display import bar, console, errors, say
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser, bundles_and_files, reading
from einthoven.terminal.record_files import expand

METHOD = "integrated_gradients"
SHOWN = 4  # leads with the largest shares


def explain(conf: Path, arguments: Sequence[str]) -> bool:
    """Draw what the answers for files rest on, and say how far the drawings can be trusted.

    Parameters
    ----------
    conf : Path
        The configuration folder: a method is a yaml in its ``explanation``, or in that of a folder of
        ``--config-dir``.
    arguments : sequence of str
        As on the command line, after the verb.

    Returns
    -------
    bool
        Whether every file was explained.

    Raises
    ------
    UserError
        If an option is wrong, a bundle cannot be loaded, or a pattern or folder names no file.
    """
    parser = Parser("explain")
    parser.add_argument("paths", nargs="+", metavar="FILE")
    parser.add_argument("--method", default=METHOD)
    parser.add_argument("--class", dest="label")
    parser.add_argument("--output", type=Path, default=Path("explanation.pdf"))
    parser.add_reading()
    folders, others = conf_folders(conf, arguments)
    options = parser.parse_args(others)
    check_output(f"--output {options.output}", options.output)
    bundles, paths = bundles_and_files(options.paths, "explain")
    predictor, files = load_bundle(*bundles), expand(paths)
    method = method_named(folders, options.method, predictor.reads.fs)
    from einthoven.report.explanation import check_suffix

    check_suffix(options.output)
    if len(files) > 1 and options.output.suffix.lower() != ".pdf":
        raise UserError(f"--output {options.output}: {len(files)} files take pages; expected a name that ends in .pdf.")
    if options.label is not None and options.label not in predictor.classes:
        raise UserError(unknown_name(f"--class {options.label}", options.label, predictor.classes))
    found, refused = [], []
    with bar("explaining", errors) as progress:
        for done, file in enumerate(files, 1):
            try:
                _, prepared = read_prepared(file, predictor.reads, cuts=predictor.cuts, **reading(options))
                found.append((file, predictor.explain(prepared, options.label, method, judge=True)))
            except UserError as error:
                refused.append(str(error))
            progress(done, len(files))
    if found:
        _draw(predictor, found, options.method, options.output)
        _show(predictor, found, options.output)
    if refused:
        errors.print(f"{len(refused)} of {len(files)} files not explained:")
        for reason in refused:
            errors.print(f"  {reason}", soft_wrap=True)
    return not refused


def method_named(folders: Sequence[Path], name: str, fs: float) -> Method:
    """The method of a yaml in the ``explanation`` of a configuration folder, for records of a sampling frequency.

    The user has named the folders: the code that the yaml names is trusted.

    Raises
    ------
    UserError
        If there is none of this name.
    """
    from omegaconf import OmegaConf

    files = option_files(folders, "explanation")
    if name not in files:
        raise UserError(unknown_name(f"--method {name}", name, sorted(files)))
    config = OmegaConf.create({"data": {"fs": fs}, "explanation": OmegaConf.load(files[name])})
    trust_named(config)
    method: Method = build(config.explanation)
    return method


def _draw(predictor: Predictor, found: Sequence[tuple[Path, Explanation]], method: str, path: Path) -> None:
    from einthoven.report import explanation as report

    def page(file: Path, told: Explanation) -> Any:
        assert told.worth is not None
        since = f" from {told.start_s:g} s" if told.start_s else ""
        return report.explanation_figure(
            told.signal,
            told.fs,
            told.relevance,
            told.label,
            title=f"{file.name}{since}: {told.label} {told.probability:.2f}",
            subtitle=report.worth_line(method.replace("_", " "), told.worth),
            leads=told.leads,
            foot=(report.share_line(told.by_lead), *_caution_line(told), predictor.notice),
        )

    report.save_pages((page(file, told) for file, told in found), path)


def _caution_line(told: Explanation) -> list[str]:
    return [f"Caution: {'; '.join(told.cautions)}."] if told.cautions else []


def _show(predictor: Predictor, found: Sequence[tuple[Path, Explanation]], path: Path) -> None:
    """A row for each record, and what the numbers mean."""
    table = Table(box=None, pad_edge=False)
    for name in ("file", "class", "deletion", "(chance)", "insertion", "(chance)", "sanity", "leads"):
        table.add_column(name, overflow="fold")
    for file, told in found:
        assert told.worth is not None
        deletion, insertion, by_chance, in_chance, sanity = (f"{value[0]:.2f}" for value in vars(told.worth).values())
        shares = sorted(told.by_lead.items(), key=lambda item: -item[1])[:SHOWN]
        told_of = f"{told.label} {told.probability:.2f}"
        listed = "  ".join(f"{lead} {share:.0%}" for lead, share in shares)
        row = (told_of, deletion, f"({by_chance})", insertion, f"({in_chance})", sanity, listed)
        table.add_row(file.name, *row)
    console.print(table)
    for file, told in found:
        for line in _caution_line(told):
            console.print(f"{file.name}: {line}", soft_wrap=True, markup=False)
    console.print(
        "deletion, insertion: mean probability while the most relevant parts go, and come; a good map has a small one "
        "and a large one, chance is a random order. sanity: rank correlation with the map of weights dealt anew; "
        "near 1, the map does not depend on what was learned",
        style="dim",
        soft_wrap=True,
    )
    say(f"{path}: {len(found)} page{'s' * (len(found) > 1)}")
    console.print(predictor.notice, style="bold", soft_wrap=True)
