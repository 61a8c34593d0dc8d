"""The page in a Chromium of the system, driven by Playwright."""

from __future__ import annotations

import re
import shutil
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MM_PER_INCH = 25.4
PIXELS_PER_INCH = 400
GRID = (0xEB, 0xA0, 0x93)  # colour of the lines between large squares
LENGTH_OF_LINE = 0.4  # of the longest one: nothing else of this colour is so long
PATIENCE = 30_000  # ms, on a busy machine
SPARSE = 9  # a line is looked for in every ninth row or column


@contextmanager
def system_browser() -> Iterator[Browser]:
    """Start the browser, or skip the test if there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no browser found: this test opens the page in Chromium or Chrome.")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, **context: Any) -> Iterator[Page]:
    """Open the page. At the end, it must have asked no other address, and have had no fault and no broken rule."""
    foreign: list[str] = []
    faults: list[str] = []
    page = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **context}).new_page()
    page.on("request", lambda request: None if request.url.startswith(address) else foreign.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.goto(address)
    expect(page.locator("#about")).to_contain_text("Trained on")
    yield page
    page.context.close()
    # The console shows the status of a refused record (422) and of a busy server (503) as errors.
    assert [fault for fault in faults if not re.search("status of (422|503)", fault)] == []
    assert foreign == []


def drop(page: Page, *files: Path) -> None:
    """Drag files over the page, and let go of them."""
    contents = [[file.name, b64encode(file.read_bytes()).decode()] for file in files]
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const [name, text] of files) {
                const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
                transfer.items.add(new File([bytes], name));
            }
            return transfer;
        }""",
        contents,
    )
    for kind in ("dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": transfer})


def squares_of_print(page: Page, **options: Any) -> tuple[list[float], tuple[float, float]]:
    """Print the page. Return the widths and heights of the large squares, and the size of the first sheet, in mm."""
    import pypdfium2

    sheet = pypdfium2.PdfDocument(page.pdf(prefer_css_page_size=True, print_background=True, **options))[0]
    picture = sheet.render(scale=PIXELS_PER_INCH / 72, rev_byteorder=True).to_numpy()[..., :3]
    sizes: list[float] = []
    for axis, part in ((0, picture[::SPARSE]), (1, picture[:, ::SPARSE])):
        is_line = (np.abs(part.astype(np.int16) - GRID) <= 12).all(axis=-1)
        share = is_line.mean(axis=axis)
        lines = _centres(share > LENGTH_OF_LINE * share.max())
        sizes += (np.diff(lines) * MM_PER_INCH / PIXELS_PER_INCH).tolist()
    width, height = (length * MM_PER_INCH / 72 for length in sheet.get_size())
    return sizes, (width, height)


def _centres(is_line: np.ndarray) -> np.ndarray:
    """Return the middle of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_line, [False]]).astype(int)))
    starts, ends = edges[::2], edges[1::2]
    return np.asarray((starts + ends - 1) / 2)


def texts_of_print(page: Page) -> list[str]:
    """Print the page, and return the text of each sheet with single blanks."""
    import pypdfium2

    sheets = pypdfium2.PdfDocument(page.pdf(prefer_css_page_size=True))
    return [" ".join(sheet.get_textpage().get_text_range().split()) for sheet in sheets]
