"""`einthoven export [BUNDLE] FILE`: write a bundle as one file for other runtimes, ``.pt2`` or ``.onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.predict import load_bundle
from einthoven.terminal.display import console, say
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser


def main(arguments: Sequence[str]) -> None:
    """Write a bundle to a file, and print what the file takes and gives.

    Parameters
    ----------
    arguments : sequence of str
        Words of the command line after the verb.

    Raises
    ------
    UserError
        If the bundle cannot be loaded, or the file cannot be written.
    """
    parser = Parser("export")
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("file", type=Path)
    options = parser.parse_args(list(arguments))
    check_output(f"export {options.file}", options.file)

    # Imported only now: a mistake in the arguments is answered without waiting for it.
    from einthoven.predict.export import export

    named_bundles = [options.bundle] if options.bundle else []
    (bundle,) = load_bundle(*named_bundles).bundles
    export(bundle, options.file)
    input_format = bundle.input_format
    say(
        f"{options.file}: mV (n, {len(input_format.leads)}, {input_format.samples}) at {input_format.fs:g} Hz, leads "
        f"{' '.join(input_format.leads)} -> probabilities (n, {len(bundle.classes)}): {' '.join(bundle.classes)}"
    )
    console.print(bundle.notice, soft_wrap=True)
