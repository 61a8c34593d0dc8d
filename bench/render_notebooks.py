"""Execute the notebooks, and write each as a page with its pictures: docs/notebooks/NAME.md and notebooks/NAME.ipynb.

    make notebooks
    make notebooks ARGS="02_calculus 03_probability"

GitHub shows a notebook in the percent format without pictures, so the pages are part of the repository. The first line
of a page has a hash of its notebook, and a test compares it. The records are those of PTB-XL if this computer has them
(notebooks/ecgs.py).
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import jupytext
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
PAGES = ROOT / "docs" / "notebooks"
WIDTH = 1000
"""Largest width of a picture in pixels."""

COLOURS = 256
"""Colours of a picture. The figures have few, and a picture with a palette is a third of the size."""

TIMEOUT_S = 600


def source_hash(name: str) -> str:
    """Return a hash of a notebook and of the module that gives the notebooks their ECGs."""
    digest = hashlib.sha256()
    for file in (NOTEBOOKS / f"{name}.py", NOTEBOOKS / "ecgs.py"):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def execute(name: str) -> Any:
    """Execute a notebook in its folder, and write it with its outputs beside its source."""
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py")
    runner = ExecutePreprocessor(timeout=TIMEOUT_S, kernel_name="python3")
    runner.preprocess(notebook, {"metadata": {"path": str(NOTEBOOKS)}})
    jupytext.write(notebook, NOTEBOOKS / f"{name}.ipynb")
    return notebook


def write_page(name: str, notebook: Any) -> None:
    """Write the page of an executed notebook, and its pictures."""
    folder = PAGES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts = [f"<!-- made by make notebooks from notebooks/{name}.py, {source_hash(name)} -->"]
    heading = ""
    pictures = 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(with_page_links(cell.source))
            headings = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)
            heading = headings[-1] if headings else heading
            continue
        parts.append(f"```python\n{without_magic(cell.source)}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                pictures += 1
                (folder / f"{pictures}.png").write_bytes(small_picture(base64.b64decode(data["image/png"])))
                parts.append(f"![{heading}]({name}/{pictures}.png)")
            elif "text/markdown" in data:
                parts.append(data["text/markdown"])
            elif output.output_type == "stream" and output.name == "stdout":
                parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif "text/plain" in data and not data["text/plain"].startswith("<"):
                parts.append(f"```text\n{data['text/plain']}\n```")
    (PAGES / f"{name}.md").write_text("\n\n".join(parts) + "\n")


def without_magic(source: str) -> str:
    """Return the source of a cell without the line that only Jupyter understands."""
    lines = [line for line in source.splitlines() if not line.startswith("%")]
    return "\n".join(lines).strip("\n")


def with_page_links(text: str) -> str:
    """Let links between notebooks, and to the documentation, lead from the page to pages."""
    text = re.sub(r"\]\((\d\d_\w+)\.py\)", r"](\1.md)", text)
    return text.replace("](../docs/", "](../")


def small_picture(png: bytes) -> bytes:
    """Return a picture of at most `WIDTH` pixels in width, with a palette."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    # This method keeps rare colours, such as those of thin lines, apart.
    palette = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    palette.save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Execute and write the named notebooks, or all of them."""
    names = sys.argv[1:] or sorted(file.stem for file in NOTEBOOKS.glob("[0-9]*.py"))
    for name in names:
        write_page(name, execute(name))
        size = sum(file.stat().st_size for file in (PAGES / name).glob("*.png"))
        print(f"{name}: {len(list((PAGES / name).glob('*.png')))} pictures, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
