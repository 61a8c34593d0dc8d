"""The page in a real browser: chosen and dropped files, errors, a long recording, a narrow screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import pytest
from running import Server

from einthoven.predict import load_bundle

SHOWN = "!document.getElementById('result').hidden && document.getElementById('paper').naturalWidth > 0"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    program = chromium.find()
    if program is None:
        pytest.skip("no browser found: this test opens the page in Chromium or Chrome.")
    with chromium.Browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def texts(browser: chromium.Browser, selector: str) -> list[str]:
    found = browser.value(
        f"[...document.querySelectorAll('{selector}')].map((cell) => cell.innerText ?? cell.textContent)"
    )
    return [str(text).strip() for text in found]


def test_files_are_chosen_dropped_refused_and_answered(
    browser: chromium.Browser, server: Server, record: Path, tmp_path: Path
) -> None:
    browser.open(server.address)
    browser.wait("document.getElementById('notice').textContent.includes('Not for diagnosis')")
    assert "12,507 synthetic ECGs" in " ".join(texts(browser, "#about dd"))

    browser.choose("#files", record / "r.hea", record / "r.dat")
    browser.wait(SHOWN)
    expected = load_bundle("synthetic").predict([record / "r.hea"])
    p = dict(zip(load_bundle("synthetic").classes, expected.probabilities[0], strict=True))
    ranked = sorted(p, key=lambda name: -p[name])
    assert texts(browser, "#statements td:first-child") == ranked
    assert [text.split()[0] for text in texts(browser, "#statements td:nth-child(2)")] == [
        f"{p[n]:.2f}" for n in ranked
    ]
    assert [mark == "●" for mark in texts(browser, "#statements td:nth-child(4)")] == [
        n in expected.sets[0] for n in ranked
    ]
    points = load_bundle("synthetic").bundles[0].points
    for rule in ("youden", "sensitivity=0.95"):
        browser.value(f"at('rule').value = '{rule}'; at('rule').dispatchEvent(new Event('change'))")
        decided = ["positive" if p[n] >= points[n][rule]["threshold"] else "negative" for n in ranked]
        assert texts(browser, "#statements td:nth-child(5)") == decided

    assert browser.value("document.querySelectorAll('#timeline rect').length") == 3 * len(p) + 1
    browser.value("document.querySelectorAll('#timeline rect')[2].dispatchEvent(new Event('click'))")
    browser.wait("at('from').textContent === '20.0'")

    browser.value("at('explained').value = 'MI'; at('explained').dispatchEvent(new Event('change'))")
    browser.wait(f"{SHOWN} && at('label').textContent === 'MI'")
    assert texts(browser, "#shares text")[0] == "I" and len(texts(browser, "#shares text")) == 24

    browser.drop(300, 200, record / "r.csv")
    browser.wait("at('status').classList.contains('error')")
    assert "does not say the sampling frequency" in texts(browser, "#status")[0]
    assert browser.value("at('result').hidden && !at('metadata').hidden")
    browser.value("at('fs').value = '500'; at('units').value = 'mV'; at('ask').requestSubmit()")
    browser.wait(f"{SHOWN} && at('name').textContent === 'r.csv'")
    assert texts(browser, "#statements td:first-child") == ranked

    # A model with groups of statements: each group by its own probabilities, in words.
    browser.value("about.groups = {main: {CD: 'c', MI: 'm'}, rhythms: {HYP: 'h', NORM: 'n', STTC: 's'}}; show()")
    assert texts(browser, "#statements th.group") == ["main", "rhythms"]
    in_groups = [name for name in ranked if name in ("CD", "MI")] + [
        name for name in ranked if name not in ("CD", "MI")
    ]
    meanings = {"CD": "c", "MI": "m", "HYP": "h", "NORM": "n", "STTC": "s"}
    assert texts(browser, "#statements td:first-child") == [f"{name}: {meanings[name]}" for name in in_groups]

    evil = tmp_path / "<img src=x onerror=alert(1)>.hea"
    evil.write_bytes(b"<script>alert(1)</script>")
    browser.drop(300, 200, evil)
    browser.wait("at('status').classList.contains('error')")
    assert browser.value("document.querySelectorAll('#status *').length") == 0

    browser.value("window.ours = fetch; fetch = () => new Promise((give) => { window.late = give; }); 0")
    browser.value("window.first = ask(); fetch = ours; 0")
    browser.value("at('example').click()")
    browser.wait(f"{SHOWN} && at('name').textContent === 'generated.hea'")
    browser.value('late(new Response(\'{"error": "of before"}\', { status: 422 })), first')
    assert browser.value(SHOWN), "an answer to an earlier question is not shown"
    for seconds, told in ((10, "10 s"), (1800, "1800 s"), (29.996, "30 s"), (0.25, "0.25 s")):
        browser.value(f"answer.seconds = {seconds}; show()")
        assert texts(browser, "#facts")[0].startswith(f"{told} at ")
    browser.resize(400)
    assert browser.value("document.documentElement.scrollWidth") <= 400
    outside = [
        said for said in browser.said if not said.startswith((server.address, f"blob:{server.address}", "data:"))
    ]
    assert [said for said in outside if "status of 422" not in said] == [], "errors, or addresses of others"


def test_files_that_are_too_large_are_not_sent(browser: chromium.Browser, server: Server, tmp_path: Path) -> None:
    (tmp_path / "large.npy").write_bytes(bytes(5 * 10**6))
    browser.open(server.address)
    browser.wait("document.getElementById('notice').textContent")
    browser.choose("#files", tmp_path / "large.npy")
    browser.wait("at('status').classList.contains('error')")
    assert "5.0 MB found; at most 4 MB are read" in texts(browser, "#status")[0]
