"""`einthoven export [BUNDLE] FILE`: write a bundle as one file for other runtimes, ``.pt2`` or ``.onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from einthoven.errors import UserError
from einthoven.terminal.display import console, say
from einthoven.terminal.output import check_output
from einthoven.terminal.parser import Parser

SUFFIXES = (".pt2", ".onnx")
"""Suffixes of the file that this verb writes."""


def main(arguments: Sequence[str]) -> None:
    """Write a bundle to a file, and print what the file takes and gives."""
    bundle_names, file, takes_network = _read_words(arguments)
    check_output(f"export {file}", file)

    # Imported only now: a mistake in the arguments is answered without waiting for it.
    from einthoven.predict import load_bundle
    from einthoven.predict.export import export
    from einthoven.predict.groups import network_alone

    (bundle,) = load_bundle(*bundle_names).bundles
    if takes_network and not bundle.members:
        raise UserError("--network: this bundle answers with its network alone; leave it out.")
    if bundle.members and not takes_network:
        raise UserError(
            f"export {file}: this bundle answers with the mean of a network and a model of ECG measurements, and the "
            "file can hold the network only; add --network to write it without its calibration, or name the bundle of "
            "a network, such as synthetic."
        )
    if takes_network:
        bundle = network_alone(bundle)
    export(bundle, file)
    input_format = bundle.input_format
    say(
        f"Wrote {file}. Its input is an array (n, {len(input_format.leads)}, {input_format.samples}) of millivolts at "
        f"{input_format.fs:g} Hz, with the leads {' '.join(input_format.leads)}. Its output is an array "
        f"(n, {len(bundle.classes)}) of the probabilities of {' '.join(bundle.classes)}."
    )
    console.print(bundle.notice, soft_wrap=True)


def _read_words(arguments: Sequence[str]) -> tuple[list[str], Path, bool]:
    """Return the bundle, if there is one, the file, and whether to write the network alone.

    The suffix shows which word is the file.
    """
    parser = Parser("export")
    parser.add_argument("words", nargs="+", metavar="FILE")
    parser.add_argument("--network", action="store_true")
    options = parser.read(arguments)
    words = options.words
    if len(words) > 2:
        raise UserError(f"export: {len(words)} words given ({' '.join(words)}); expected [BUNDLE] FILE.")
    files = [word for word in words if Path(word).suffix.lower() in SUFFIXES]
    file = files[-1] if files else words[-1]
    words.remove(file)
    return words, Path(file), options.network
