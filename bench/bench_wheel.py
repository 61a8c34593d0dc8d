"""The wheel, installed without extras in an empty folder, answers an ECG: python bench/bench_wheel.py FILE [...].

FILE ... are the files of one ECG in a format that needs no extra: WFDB, CSV or Parquet. The table shows the size of the
wheel and of its environment, and the seconds of each step. pip takes the versions of `requirements.lock` from its cache
or from the package index, so the seconds depend on the network.
"""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"


def run(words: Sequence[str | Path], folder: Path) -> float:
    """Run a command in a folder, and return its seconds."""
    start = time.perf_counter()
    subprocess.run([str(word) for word in words], cwd=folder, check=True)
    return time.perf_counter() - start


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all files below a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir()) / 1e6


def main() -> None:
    files = [Path(name).resolve() for name in sys.argv[1:]]
    if not files:
        sys.exit(__doc__)
    with TemporaryDirectory() as name:
        folder = Path(name)
        environment = folder / "environment"
        built = run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], folder)
        (wheel,) = folder.glob("einthoven-*.whl")
        venv.create(environment, with_pip=True)
        pip = [environment / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        installed = run([*pip, "-c", LOCK, wheel], folder)
        empty = folder / "empty"
        empty.mkdir()
        answered = run([environment / "bin" / "einthoven", "predict", *files], empty)
        print(f"{'wheel':12} {megabytes(wheel):8.1f} MB {built:6.0f} s to build")
        print(f"{'environment':12} {megabytes(environment):8.1f} MB {installed:6.0f} s to install")
        print(f"{'predict':12} {'':8}    {answered:6.0f} s")


if __name__ == "__main__":
    main()
