"""Ten minutes of damaged headers: python bench/fuzz_header.py [SECONDS] [SEED].

Headers of real records (under EINTHOVEN_REAL_DATA, where it is set) and of the layouts that the tests have are cut,
spliced, repeated and filled with the tokens that parsers trip over. Each has to give a `Header` or a `UserError` of
one line, within a second; one in ten is also read, with signal files of 2,400 bytes beside it. Anything else is
printed with the text that did it, and ends the run with status 1.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from einthoven.data.formats.reading import read_microvolts, read_record
from einthoven.data.formats.wfdb_header import parse_header
from einthoven.errors import UserError
from einthoven.functional.leads import LEADS

FORMATS = ("8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516")
SEEDS = [
    "a 12 100 100\n" + "".join(f"a.dat 16 1000.0(0)/mV 16 0 0 0 0 {lead}\n" for lead in LEADS),
    "a 12 100/10(3) 20 12:00:00 01/01/2000\n"
    + "".join(f"a.dat 212x2:1+24 200/uV 12 7 0 0 0 {lead}\n" for lead in LEADS)
    + "# Age: 60\n# Dx: 426783006\n",
    "a/3 12 100 250\nb 100\n~ 50\nb 100\n",
    "a/3 12 100\nl 0\nb 100\n~ 50\n",
    "a 12 100 9\n"
    + "".join(f"{fmt}.dat {fmt} 1e3(5)/V 8 0 0 0 0 {lead}\n" for fmt, lead in zip(FORMATS, LEADS, strict=True)),
]
PIECES = ["", "0", "-1", "1", "2", "12", "16", "212", "310", "508", "16x2", "16x0", "16:3", "16+24", "1e9", "1e-9"]
PIECES += ["1e999", "nan", "inf", "1000/mV", "/mV", "200(5)/uV", "()", "(", ")", "/", "..", "../x", "/etc/passwd", "-"]
PIECES += ["~", "a", "b", "l", "a.dat", "a/1", "a/2", "b/0", "#", "##", "µ", "μ", "I", "v6", "-aVR", "1_0", "0x10", "٣"]
PIECES += ["½", "\0", "\x1c", "\u2028", "\ufeff", "\ud7ff", "é", "💓", "\n", "\r\n", "\r", "\t", " "]
PIECES += ["9" * 18, "9" * 19, "9" * 400, "9" * 5000, "a" * 300]


def mutated(rng: random.Random, seeds: list[str]) -> str:
    text = rng.choice(SEEDS if rng.random() < 0.5 else seeds)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.choice([0, 1, 1, 2, 5, 20, 200]))
        kind = rng.randrange(7)
        if kind == 0:  # any characters
            text = text[:start] + "".join(chr(rng.randrange(256)) for _ in range(rng.randint(1, 4))) + text[end:]
        elif kind == 1:  # something parsers trip over
            text = text[:start] + rng.choice(PIECES) + text[end:]
        elif kind == 2:  # a part of another header
            other = rng.choice(seeds)
            cut = rng.randint(0, len(other))
            text = text[:start] + other[cut : cut + rng.randint(0, 100)] + text[end:]
        elif kind == 3:  # the same again
            text = text[:end] + text[start:end] * rng.choice([1, 2, 50]) + text[end:]
        elif kind == 4:  # cut off
            text = text[:start]
        else:  # one field of one line
            lines = text.split("\n")
            fields = lines[(row := rng.randrange(len(lines)))].split(" ")
            fields[rng.randrange(len(fields))] = rng.choice(PIECES)
            lines[row] = " ".join(fields)
            text = "\n".join(lines)
    return text[: 2**16]


def outcome(text: str, folder: Path | None) -> str:
    """What became of a header: the kind of refusal, or what was read."""
    try:
        if folder is None:
            parse_header(text, "", "a.hea")
            return "header"
        (folder / "a.hea").write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
        for read in (read_record, read_microvolts):
            read(folder / "a")
        return "record"
    except UserError as refusal:
        sentence = str(refusal)
        assert "\n" not in sentence and sentence.endswith(".") and len(sentence) < 2000, sentence
        return "refused"


def main(seconds: float, seed: int) -> int:
    rng, counts, slowest = random.Random(seed), Counter(), 0.0
    real = Path(os.environ.get("EINTHOVEN_REAL_DATA", "/nowhere"))
    files = sorted(real.glob("cinc2021/*.hea")) + sorted(real.glob("ptbxl/records500/*/*.hea"))[:20]
    seeds = SEEDS + [file.read_text() for file in files]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for stem in ("a", "b", *FORMATS):
            (folder / f"{stem}.dat").write_bytes(b"\0" * 2400)
        (folder / "b.hea").write_text(SEEDS[0].replace("a ", "b ", 1).replace("a.dat", "b.dat"))
        (folder / "l.hea").write_text("l 12 100 0\n" + "".join(f"~ 0 1000/mV 16 0 0 0 0 {lead}\n" for lead in LEADS))
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            text = mutated(rng, seeds)
            try:
                counts[outcome(text, folder if rng.random() < 0.1 else None)] += 1
            except Exception as error:  # what the run is there to find
                print(f"{type(error).__name__}: {error}\n{text!r}")
                return 1
            slowest = max(slowest, time.monotonic() - start)
    print(f"{counts.total()} headers in {seconds:g} s (seed {seed}, {len(seeds)} to start from): {dict(counts)}")
    print(f"slowest {slowest * 1000:.0f} ms; no exception but UserError")
    return int(slowest > 1.0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600.0, int(sys.argv[2]) if len(sys.argv) > 2 else 0))
