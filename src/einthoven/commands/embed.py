"""`einthoven embed [MODEL] FILE ... --output FILE`: what the head of a trained network reads, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from einthoven.errors import UserError
from einthoven.machine import limit_threads
from einthoven.terminal.display import bar, errors, say
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser, bundles_and_files, positive_seconds, reading
from einthoven.terminal.record_files import expand

SUFFIXES = (".parquet", ".csv", ".npz")
"""Suffixes of the tables that `einthoven.terminal.embedding_output` writes."""


def main(arguments: Sequence[str]) -> int:
    """Embed files, and write one table. The exit code is 0 if each file has an embedding, 1 otherwise."""
    options = _options(arguments)
    check_output(f"--output {options.output}", options.output)
    if options.output.suffix.lower() not in SUFFIXES:
        raise UserError(f"--output {options.output}: expected a name that ends in {', '.join(SUFFIXES)}.")

    # Imported only now: a mistake in the arguments is answered without waiting for torch.
    from einthoven.models.encoder import check_tokens
    from einthoven.predict import DEFAULT_BUNDLE
    from einthoven.predict.embedding import embed_files
    from einthoven.runs.evaluation.encoder import read_encoder
    from einthoven.terminal.embedding_output import write_embeddings

    limit_threads()
    models, paths = bundles_and_files(options.paths, "embed")
    if len(models) > 1:
        raise UserError(f"embed: {len(models)} models given ({' '.join(models)}); expected one.")
    encoder = read_encoder(models[0] if models else str(DEFAULT_BUNDLE))
    if options.rows == "token":
        check_tokens(encoder.model.network)
    files = expand(paths)

    with bar("embedding", errors) as progress:
        results = embed_files(encoder, files, reading(options), options.rows, options.stride, progress)
        count, reasons = write_embeddings(options.output, results, encoder, options.rows)

    if count:
        embedded = len(files) - len(reasons)
        say(
            f"Wrote {count:,} row{'s' * (count != 1)} of {embedded:,} file{'s' * (embedded != 1)} to {options.output}. "
            f"The model is {encoder.sha256[:12]} (SHA-256 of its {encoder.kind})."
        )
    if reasons:
        errors.print(f"There is no embedding of {len(reasons)} of {len(files)} files:")
        for reason in reasons:
            errors.print(f"  {reason}", soft_wrap=True)
    return 1 if reasons else 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser("embed")
    parser.add_argument("paths", nargs="+", metavar="FILE")
    parser.add_argument("--output", type=Path, required=True)
    rows = parser.add_mutually_exclusive_group()
    for name, row in (("windows", "window"), ("tokens", "token")):
        rows.add_argument(f"--{name}", dest="rows", action="store_const", const=row, default="record")
    parser.add_argument("--stride", type=positive_seconds)
    parser.add_reading()
    return parser.read(arguments)
