"""The page in a real browser: files, answers, refusals, keyboard, print, a telephone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from running import Server

pytest.importorskip("playwright", reason="playwright is not installed: this test drives a browser with it.")

from browser import drop, opened, squares_of_print, system_browser, texts_of_print
from playwright.sync_api import Browser, Page, Route, expect

from einthoven.data import read_record
from einthoven.functional.leads import LEADS
from einthoven.predict import load_bundle

CLASSES = {
    "CD": "Conduction disturbance (CD)",
    "HYP": "Hypertrophy (HYP)",
    "MI": "Myocardial infarction (MI)",
    "NORM": "Normal ECG (NORM)",
    "STTC": "Change of ST and T (STTC)",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with system_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    with opened(browser, server.address) as page:
        yield page


def choose(page: Page, *files: Path) -> None:
    page.set_input_files("#files", list(files))


def texts(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def test_an_answer_stands_first_and_its_tables_follow(page: Page, record: Path) -> None:
    assert "12,507 synthetic ECGs" in " ".join(texts(page, "#about dd"))
    choose(page, record / "r.hea", record / "r.dat")
    expect(page.locator("#name")).to_have_text("r.hea")
    bundle = load_bundle("synthetic")
    expected = bundle.predict([record / "r.hea"])
    p = dict(zip(bundle.classes, expected.probabilities[0], strict=True))
    ranked = sorted(p, key=lambda name: -p[name])

    # The answer in words is in the first screen, and the status says it.
    first = page.locator(".main-label").first
    expect(first).to_contain_text(CLASSES[ranked[0]])
    expect(first).to_contain_text(f"{100 * p[ranked[0]]:.0f} %")
    box = page.locator("#vitals").bounding_box()
    assert box is not None and box["y"] + box["height"] < 900
    expect(page.locator("#status")).to_contain_text(CLASSES[ranked[0]])
    assert page.evaluate("document.activeElement.id") == "name"
    vitals = dict(zip(texts(page, "#vitals dt"), texts(page, "#vitals dd"), strict=True))
    assert re.fullmatch(r"\d+ per minute", vitals["Heart rate"])
    assert vitals["Recording"] == "30 s at 500 Hz" and "Age" not in vitals

    assert texts(page, "#statements tbody th") == [CLASSES[name] for name in ranked]
    possible = [text == "yes" for text in texts(page, "#statements td:nth-child(4)")]
    assert possible == [name in expected.sets[0] for name in ranked]
    points = bundle.bundles[0].points
    for rule in ("youden", "sensitivity=0.95"):
        page.select_option("#rule", rule)
        decided = ["yes" if p[name] >= points[name][rule]["threshold"] else "no" for name in ranked]
        assert texts(page, "#statements td:nth-child(5)") == decided

    # A long recording: a click on a window shows its page.
    assert page.locator("#timeline .cell").count() == 3 * len(p)
    page.locator("#timeline .cell").nth(2).click()
    expect(page.locator("#from")).to_have_text("0:20")
    expect(page.locator("#print-scale")).to_contain_text("From 0:20 to 0:30 of 30 s.")
    page.get_by_role("button", name="10 s earlier").click()
    expect(page.locator("#from")).to_have_text("0:10")
    expect(page.locator("#main-labels")).to_contain_text("Each percentage is the mean of 3 parts of the recording.")

    # What an answer rests on is colour behind the same trace, and a share of each lead.
    trace = page.locator(".trace[data-lead=V5]").get_attribute("d")
    page.select_option("#explained", "MI")
    expect(page.locator("#label")).to_have_text(CLASSES["MI"])
    assert page.locator(".for, .against").count() > 0 and page.locator("#shares div").count() == len(LEADS)
    assert page.locator(".trace[data-lead=V5]").get_attribute("d") == trace


def test_every_sample_is_drawn(page: Page, record: Path) -> None:
    choose(page, record / "r.hea", record / "r.dat")
    expect(page.locator("#name")).to_have_text("r.hea")
    signal = read_record(record / "r.hea").signal
    for view, lead, seconds, speed, gain in (("all", "V4", (7.5, 10), 25, 10), ("II", "II", (0, 5), 50, 10)):
        page.select_option("#view", view)
        path = page.locator(f".trace[data-lead={lead}]").first.get_attribute("d") or ""
        points = np.array([[float(number) for number in pair.split()] for pair in re.split("[ML]", path)[1:]])
        samples = signal[LEADS.index(lead), round(seconds[0] * 500) : round(seconds[1] * 500) + 1]
        assert len(points) == len(samples)
        assert np.diff(points[:, 0]) == pytest.approx(speed / 500, abs=0.011)
        assert points[0, 1] - points[:, 1] == pytest.approx(gain * (samples - samples[0]), abs=0.03)


def test_files_are_dropped_and_what_they_do_not_say_is_asked_for(page: Page, record: Path) -> None:
    drop(page, record / "r.csv")
    expect(page.locator("#fs")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#error")).to_contain_text("expected a value in the field “Sampling frequency”")
    assert not page.locator("#result").is_visible()
    assert page.evaluate("document.activeElement.id") == "fs"
    page.get_by_label("Sampling frequency in hertz").fill("500")
    page.get_by_label("Unit of the values").select_option("millivolt (mV)")
    page.get_by_role("button", name="Read the file again").click()
    expect(page.locator("#name")).to_have_text("r.csv")
    expect(page.locator("#error")).to_be_empty()
    choose(page, record / "r.hea", record / "r.dat")
    expect(page.locator("#name")).to_have_text("r.hea")
    assert not page.locator("#metadata").is_visible(), "a form that this file does not need"


def test_a_record_in_another_unit_gets_no_answer(page: Page, record: Path, tmp_path: Path) -> None:
    microvolts = read_record(record / "r.hea").signal[:, :5000].T * 1000
    np.savetxt(tmp_path / "microvolts.csv", microvolts, "%.0f", ",", header=",".join(LEADS), comments="")
    choose(page, tmp_path / "microvolts.csv")
    page.get_by_label("Sampling frequency in hertz").fill("500")
    page.get_by_label("Unit of the values").select_option("millivolt (mV)")
    page.get_by_role("button", name="Read the file again").click()
    expect(page.locator("#refusal")).to_contain_text(
        "No answer. The unit cannot be right: amplitudes of another unit. Choose the right unit above"
    )
    assert "Amplitudes of another unit" in page.locator("#warnings").inner_text()
    for hidden in ("#answer", "#probabilities", "#measured", "#ecg"):
        assert not page.locator(hidden).is_visible()
    page.get_by_label("Unit of the values").select_option("microvolt (µV)")
    page.get_by_role("button", name="Read the file again").click()
    expect(page.locator("#answer")).to_be_visible()
    assert not page.locator("#refusal").is_visible()

    # The form cannot change a unit that the file states.
    names = ",".join(f"{lead} (mV)" for lead in LEADS)
    times = np.arange(len(microvolts)) / 500
    table = np.column_stack([times, microvolts])
    np.savetxt(tmp_path / "stated.csv", table, "%.3f", ",", header=f"time,{names}", comments="")
    choose(page, tmp_path / "stated.csv")
    expect(page.locator("#refusal")).to_contain_text("The file states this unit: correct it in the file.")
    assert not page.locator("#metadata").is_visible()


def test_a_record_with_exchanged_electrodes_is_shown_without_an_answer(
    page: Page, record: Path, tmp_path: Path
) -> None:
    # Without the electrodes of the arms exchanged, I changes its sign, and II and III change places.
    signal = read_record(record / "r.hea").signal[:, :5000].copy()
    signal[:6] = np.stack([-signal[0], signal[2], signal[1], signal[4], signal[3], signal[5]])
    np.savetxt(tmp_path / "arms.csv", signal.T, "%.3f", ",", header=",".join(LEADS), comments="")
    choose(page, tmp_path / "arms.csv")
    page.get_by_label("Sampling frequency in hertz").fill("500")
    page.get_by_label("Unit of the values").select_option("millivolt (mV)")
    page.get_by_role("button", name="Read the file again").click()
    expect(page.locator("#refusal")).to_have_text(
        re.compile(
            "^No answer. The position of the electrodes cannot be right: [a-z ]+ exchanged. Check the electrodes"
        )
    )
    expect(page.get_by_role("alert")).to_contain_text("No answer for arms.csv. The position")
    assert page.locator("#ecg").is_visible() and not page.locator("#answer").is_visible()


def test_a_damaged_file_and_one_that_is_too_large_get_a_sentence(page: Page, tmp_path: Path) -> None:
    evil = tmp_path / "<img src=x onerror=alert(1)>.hea"
    evil.write_bytes(b"<script>alert(1)</script>")
    drop(page, evil)
    expect(page.get_by_role("alert")).to_contain_text("record line")
    assert page.locator("#error *").count() == 0 and not page.locator("#result").is_visible()
    (tmp_path / "large.npy").write_bytes(bytes(5 * 10**6))
    choose(page, tmp_path / "large.npy")
    expect(page.get_by_role("alert")).to_contain_text("5.0 MB found; at most 4 MB are read")


def test_an_answer_to_an_earlier_question_is_not_shown(page: Page, record: Path) -> None:
    waiting = []
    page.route("**/answer?*file=r.csv*", lambda route: waiting.append(route))
    choose(page, record / "r.csv")
    expect(page.locator("#waiting")).to_have_text(re.compile(r"\d+ s so far\. .* The limit is 10 s\."))
    page.get_by_role("button", name="Show a generated ECG").click()
    expect(page.locator("#name")).to_have_text("generated.hea")
    expect(page.locator("#waiting")).to_be_empty()
    waiting[0].fulfill(status=422, json={"error": "of before"})
    page.wait_for_timeout(50)
    expect(page.locator("#error")).to_be_empty()
    expect(page.locator("#answer")).to_be_visible()


def test_each_error_has_a_sentence_of_its_own(browser: Browser, server: Server) -> None:
    page = browser.new_page()
    waiting: list[Route] = []
    page.route("**/about", lambda route: waiting.append(route))
    page.goto(server.address)
    expect(page.locator("#files")).to_be_disabled()
    expect(page.locator("#example")).to_be_disabled()
    waiting[0].continue_()
    faults: list[tuple[Callable[[Route], None], str]] = [
        (
            lambda route: route.fulfill(status=500, body="Internal Server Error"),
            "No answer: a fault of einthoven app (status 500).",
        ),
        (lambda route: route.abort(), "is einthoven app still running"),
        (lambda route: route.fulfill(json={}), "a fault of this page (TypeError)"),
    ]
    for handle, sentence in faults:
        page.route("**/answer?*", handle)  # the last handler of an address is used
        page.get_by_role("button", name="Show a generated ECG").click()
        expect(page.locator("#error")).to_contain_text(sentence)
        expect(page.locator("#status")).to_be_empty()
    page.route("**/about", lambda route: route.abort())
    page.reload()
    expect(page.locator("#error")).to_contain_text("The model cannot be described")
    page.context.close()


def test_an_answer_without_its_explanation_stays(page: Page) -> None:
    def refuse_to_explain(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        content["cautions"].append("no explanation of the page from 0.0 s on: unlike the training records.")
        route.fulfill(response=response, json={**content, "explained": None})

    page.route("**/answer?*explain=MI*", refuse_to_explain)
    page.get_by_role("button", name="Show a generated ECG").click()
    page.select_option("#explained", "MI")
    expect(page.locator("#colour-note")).to_have_text("No colour here: the warnings at the top say why.")
    assert "No explanation of the page from 0.0 s on" in page.locator("#warnings").inner_text()
    assert page.locator("#answer").is_visible() and page.locator("#explained").input_value() == "-"
    page.select_option("#explained", "NORM")
    expect(page.locator("#label")).to_have_text(CLASSES["NORM"])


def test_a_busy_server_changes_nothing_and_can_be_asked_again(page: Page, record: Path) -> None:
    def be_busy(route: Route) -> None:
        route.fulfill(status=503, json={"error": "10 records are being answered for; try again in 2 s."})

    # A new record: the page says why there is no answer, and asks again.
    page.route("**/answer?*", be_busy)
    choose(page, record / "r.hea", record / "r.dat")
    expect(page.get_by_role("alert")).to_contain_text("10 records are being answered for")
    page.unroute("**/answer?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#name")).to_have_text("r.hea")
    assert not page.get_by_role("button", name="Try again").is_visible()

    # Another label, and another part of the recording: the answer stays, and the controls show what the page shows.
    answer = page.locator("#main-labels").inner_text()
    page.route("**/answer?*", be_busy)
    page.get_by_role("button", name="10 s later").click()
    change = page.locator("#change-text")
    expect(change).to_have_text("The page has not changed. 10 records are being answered for; try again in 2 s.")
    expect(page.locator("#from")).to_have_text("0:00")
    page.select_option("#explained", "MI")
    expect(page.locator("#explained")).to_have_value("-")
    assert page.locator("#main-labels").inner_text() == answer and page.locator("#answer").is_visible()
    assert page.locator("#view").is_visible() and page.locator("#error").inner_text() == ""
    page.unroute("**/answer?*")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#label")).to_have_text(CLASSES["MI"])
    expect(change).to_be_empty()
    assert page.evaluate("document.activeElement.id") == "explained"


def test_a_screen_reader_finds_names_in_the_order_of_the_page(page: Page, record: Path) -> None:
    choose(page, record / "r.hea", record / "r.dat")
    expect(page.locator("#name")).to_have_text("r.hea")
    expect(page.locator("body")).to_match_aria_snapshot(
        """
        - banner:
          - heading "einthoven" [level=1]
          - paragraph:
            - strong: Not for diagnosis.
        - main:
          - button "Open an ECG. Drop the files of one record here, or choose them:"
          - status: /Answer for r.hea/
          - alert
          - article:
            - heading "r.hea" [level=2]
            - region "Answer":
              - heading "Answer" [level=3]
            - region "Measurements and patient":
              - term: Heart rate
              - definition: /per minute/
            - region "ECG":
              - region "Probabilities over time":
                - img /Probabilities of 3 parts.*NORM/
              - button "10 s earlier"
              - button "10 s later"
              - slider /Page from/
              - combobox "Leads"
              - combobox "Height of 1 mV"
              - combobox "Colour the reasons for"
              - button "Smaller ECG"
              - button "Larger ECG"
              - button "Fit the ECG to the window"
              - button "True size"
              - button "Calipers"
              - button "Print or PDF"
              - status
              - region "ECG paper":
                - img "ECG of r.hea, from 0:00 on, all and a rhythm strip"
            - region "All probabilities":
              - paragraph:
                - combobox "Threshold with"
              - table "All probabilities":
                - rowgroup:
                  - row:
                    - columnheader "Label"
                    - columnheader /Probability/
                    - columnheader /May apply/
                - rowgroup
            - region "All measurements":
              - table "All measurements"
            - region "Faults of the recording":
              - table "Faults of the recording"
          - region "The model":
            - heading "The model" [level=2]
        - contentinfo
        """
    )
    # Each control has a name, and no cell of a table is left without a word where others have one.
    nameless = page.evaluate(
        """[...document.querySelectorAll('button, input, select')]
            .filter((node) => !node.labels?.length && !node.getAttribute('aria-label') && !node.textContent.trim())
            .map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_the_rule_is_stated_if_no_label_stands_out(page: Page) -> None:
    def let_no_label_stand_out(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        content["main"] = [{**content["main"][0], "stands_out": False}]
        route.fulfill(response=response, json=content)

    page.route("**/answer?*", let_no_label_stand_out)
    page.get_by_role("button", name="Show a generated ECG").click()
    rule = "o label has a probability of 20 % or more and reaches its threshold"
    expect(page.locator("#main-labels")).to_contain_text(f"N{rule}. The most probable one:")
    expect(page.locator("#status")).to_contain_text(f"n{rule}; the most probable one is")


def test_a_probability_just_below_its_threshold_is_not_printed_like_it(page: Page) -> None:
    threshold = load_bundle("synthetic").bundles[0].points["MI"]["f1"]["threshold"]
    p = threshold - 0.0003

    def answer_just_below(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        content["probabilities"]["MI"] = p
        content["positive"]["f1"] = [name for name in content["positive"]["f1"] if name != "MI"]
        route.fulfill(response=response, json=content)

    page.route("**/answer?*", answer_just_below)
    page.get_by_role("button", name="Show a generated ECG").click()
    row = page.locator("#statements tr").filter(has_text=CLASSES["MI"])
    printed, decision, limit = (row.locator("td").nth(column).inner_text() for column in (0, 3, 4))
    assert decision == "no" and float(printed.split()[0]) < float(limit.split()[0])


def test_both_ends_of_an_interval_have_the_same_limits(page: Page) -> None:
    intervals = [[0.001, 0.012], [0.001, 0.002], [0.12, 0.3], [0.9, 0.999]]
    found = page.evaluate("(intervals) => import('/dom.js').then((dom) => intervals.map(dom.percent_range))", intervals)
    assert found == ["below 1 to 1 %", "below 1 %", "12 to 30 %", "90 to above 99 %"]


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    focused = "document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if name in page.evaluate(focused):
                return
        pytest.fail(f"{name} cannot be reached with the Tab key")

    tab_to("files")
    tab_to("example")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_contain_text("Answer for generated.hea")
    assert page.evaluate(focused) == "name"
    for name in ("view", "gain", "explained", "smaller", "larger", "fit", "true-size", "calipers"):
        tab_to(name)
    page.keyboard.press("Enter")
    assert "Mark 1" in page.evaluate(focused)
    expect(page.locator("#reading-of-calipers")).to_have_text("Between the marks: 1000 ms, 60 per minute, 1.00 mV")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.locator("#reading-of-calipers")).to_have_text("Between the marks: 1040 ms, 58 per minute, 1.50 mV")
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == "calipers" and page.locator(".calipers").count() == 0
    tab_to("print")
    tab_to("paper")


def test_calipers_follow_the_pointer_at_any_size(page: Page) -> None:
    page.get_by_role("button", name="Show a generated ECG").click()
    page.get_by_role("button", name="Calipers").click()
    for left in (50, 100):
        box = page.locator(".page").bounding_box()
        assert box is not None
        unit = box["width"] / 271
        page.mouse.move(box["x"] + left * unit, box["y"] + 50 * unit)
        page.mouse.down()
        page.mouse.move(box["x"] + (left + 20) * unit, box["y"] + 42 * unit)
        page.mouse.up()
        expect(page.locator("#reading-of-calipers")).to_have_text("Between the marks: 800 ms, 75 per minute, 0.80 mV")
        page.get_by_role("button", name="Larger").click()


def test_the_scale_is_stated_only_where_it_is_known(page: Page) -> None:
    page.get_by_role("button", name="Show a generated ECG").click()
    caption = page.locator("#caption")
    expect(caption).to_contain_text("0.2 s wide and 0.5 mV high")
    assert "mm/s" not in caption.inner_text()
    page.get_by_role("button", name="True size").click()
    page.get_by_label("Length of the bar").fill("428")  # a card of 85.6 mm: 5 pixels for each mm
    page.get_by_role("button", name="The bar is as long as the card").click()
    expect(caption).to_contain_text("On this screen: 25 mm/s, 10 mm/mV.")
    box = page.locator(".page").bounding_box()
    assert box is not None and box["width"] == pytest.approx(271 * 5, abs=1)
    page.get_by_role("button", name="Fit").click()
    assert "25 mm/s" not in caption.inner_text()

    # The browser remembers the size, and nothing else.
    page.reload()
    page.get_by_role("button", name="Show a generated ECG").click()
    page.get_by_role("button", name="True size").click()
    expect(caption).to_contain_text("On this screen: 25 mm/s, 10 mm/mV.")
    stored = page.evaluate("[Object.keys(localStorage), Object.keys(sessionStorage), document.cookie]")
    assert stored == [["einthoven.device-pixels-per-mm"], [], ""]


def test_the_size_is_kept_where_a_browser_stores_nothing(page: Page) -> None:
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError'); } });"
    )
    page.reload()
    page.get_by_role("button", name="Show a generated ECG").click()
    page.get_by_role("button", name="True size").click()
    page.get_by_label("Length of the bar").fill("428")
    page.get_by_role("button", name="The bar is as long as the card").click()
    expect(page.locator("#caption")).to_contain_text("On this screen: 25 mm/s, 10 mm/mV.")


def test_printed_squares_have_five_millimetres(page: Page) -> None:
    page.get_by_role("button", name="Show a generated ECG").click()
    expect(page.locator("#answer")).to_be_visible()
    sizes, sheet = squares_of_print(page)
    assert sheet == pytest.approx((297, 210), abs=0.5)
    assert len(sizes) == 54 + 26
    assert sizes == pytest.approx([5.0] * len(sizes), abs=0.05)
    # The measurement finds a print that is not true to scale.
    smaller, _ = squares_of_print(page, scale=0.9)
    assert np.median(smaller) == pytest.approx(4.5, abs=0.05)


def test_a_long_answer_leaves_room_for_the_ecg_on_the_first_sheet(page: Page) -> None:
    def answer_with_much_text(route: Route) -> None:
        response = route.fetch()
        content = response.json()
        first = content["main"][0]
        content["main"] = [{**first, "name": name, "stands_out": True} for name in CLASSES]
        content["cautions"] = ["10 samples of V1 are invalid: the model reads 0 mV there"] * 6
        content["patient"] = {"age": 71, "sex": "male"}
        content["measurements"]["notes"] = ["measured in the first 300 s of 1800 s"] * 8
        for name in ("heart_rate", "pr", "qrs", "qtc_fridericia"):
            content["measurements"][name]["notes"] = [
                "QRS of 134 ms is part of QT",
                "above 450 ms, the upper limit of men",
            ]
        route.fulfill(response=response, json=content)

    page.route("**/answer?*", answer_with_much_text)
    page.get_by_role("button", name="Show a generated ECG").click()
    expect(page.locator("#answer")).to_be_visible()
    sizes, _ = squares_of_print(page)
    assert sizes == pytest.approx([5.0] * (54 + 26), abs=0.05)

    # What is too long stands behind the ECG, and on the screen all is at its place again.
    first_sheet, second_sheet = texts_of_print(page)[:2]
    assert "More of the answer is on the next page" in first_sheet
    assert "Measured in the first 300 s" not in first_sheet and "Measured in the first 300 s" in second_sheet
    last_labels = [name for name in CLASSES.values() if name not in first_sheet]
    assert all(name in second_sheet for name in last_labels)
    assert texts(page, ".main-label strong") == list(CLASSES.values())
    expect(page.locator("#continued")).to_be_hidden()
    expect(page.locator("#vital-signs")).to_contain_text("Measured in the first 300 s")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_on_a_telephone_nothing_is_cut(browser: Browser, server: Server, record: Path, color_scheme: str) -> None:
    screen = {"viewport": {"width": 390, "height": 844}, "color_scheme": color_scheme, "has_touch": True}
    with opened(browser, server.address, **screen) as page:
        choose(page, record / "r.hea", record / "r.dat")
        expect(page.locator("#answer")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        beyond = page.evaluate(
            """[...document.querySelectorAll('table *, dl *, p, h2, h3, button, select')]
                .filter((node) => !node.closest('thead') && node.getBoundingClientRect().right > 390.5)
                .map((node) => node.outerHTML)"""
        )
        assert beyond == []
        ink, ground = (
            page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor")
        )
        brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, ground)]
        assert (brightness[0] > brightness[1]) == (color_scheme == "dark")
