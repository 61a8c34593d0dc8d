"""`einthoven app`: its answers are those of the bundle, and nothing that is sent to it ends it."""

from __future__ import annotations

import asyncio
import io
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from running import MEGABYTES, Server

from einthoven import cli
from einthoven.app.answer import FIELDS, _explained_as_json, answer, signal_of_page
from einthoven.app.server import STATIC, page_files
from einthoven.app.upload import FILES_LIMIT
from einthoven.atomic import PARTIAL
from einthoven.data.doctor import examine_record
from einthoven.data.formats.reading import read_record
from einthoven.data.formats.record import Record
from einthoven.functional.leads import LEADS
from einthoven.predict import Predictor, load_bundle
from einthoven.predict.delineator import load_delineator
from einthoven.predict.explaining import Explanation
from einthoven.predict.measuring import measure_records
from einthoven.predict.refusal import Refusal

TOLD = {"fs": 500, "units": "mV"}


def test_answers_are_those_of_the_bundle(server: Server, record: Path) -> None:
    import pydicom

    dicom = Path(pydicom.data.get_testdata_file("waveform_ecg.dcm"))
    predictor = load_bundle("synthetic")
    for files, told in (
        ((record / "r.hea", record / "r.dat"), {}),
        ((record / "r.dat", record / "r.hea"), {}),
        ((record / "r.csv",), TOLD),
        ((dicom,), {}),
    ):
        status, found = server.answer(*files, **told)
        assert status == 200, found
        main = next(file for file in files if file.suffix != ".dat")
        record_read = read_record(main, **told)
        expected = predictor.predict([record_read])
        assert list(found["probabilities"].values()) == pytest.approx(expected.probabilities[0].tolist(), abs=1e-6)
        assert np.array([*found["intervals"].values()]) == pytest.approx(expected.intervals[0], abs=1e-6)
        assert found["set"] == list(expected.sets[0]) and found["name"] == main.name
        starts = [window["start_s"] for window in found["windows"]]
        assert starts == expected.start_s[0].tolist()
        assert [f["evidence"] for f in found["findings"]] == [f.evidence for f in examine_record(record_read)]
        shown = record_read.signal[:, : round(10 * record_read.fs) + 1]
        assert found["signal"]["fs"] == record_read.fs and found["signal"]["leads"] == list(LEADS)
        assert np.array(found["signal"]["microvolts"]) == pytest.approx(1000 * shown, abs=0.51)
        (measured,) = measure_records(load_delineator(), [record_read])
        for name in ("heart_rate", "qrs", "qt"):
            assert found["measurements"][name]["value"] == pytest.approx(measured.values[name].value, rel=1e-3)


def test_a_page_from_within_a_long_recording(server: Server, record: Path) -> None:
    files = (record / "r.hea", record / "r.dat")
    first, later, last = (server.answer(*files, start=start)[1] for start in (0, 15, 1000))
    assert [first["start_s"], later["start_s"], last["start_s"]] == [0, 15, 20]
    assert first["probabilities"] == later["probabilities"] and first["signal"] != later["signal"]
    signal = np.rint(1000 * read_record(files[0]).signal[:, 7500:12_501].astype(float))
    assert later["signal"]["microvolts"] == signal.tolist()


def test_what_an_answer_rests_on(server: Server, record: Path) -> None:
    files = (record / "r.hea", record / "r.dat")
    plain, likeliest, told, other = (
        server.answer(*files, start=12, **more)[1]
        for more in ({}, {"explain": ""}, {"explain": "MI"}, {"explain": "NORM"})
    )
    predictor = load_bundle("synthetic")
    window = Record(read_record(files[0]).signal[:, 5000:10_000], 500.0, predictor.input_format.leads, "r")
    expected = predictor.explain(window, "MI")
    assert plain["explained"] is None and (told["explained"]["label"], told["start_s"]) == ("MI", 10)
    ranked = sorted(plain["probabilities"], key=lambda name: -likeliest["windows"][1]["probabilities"][name])
    assert likeliest["explained"]["label"] == ranked[0]
    assert list(told["explained"]["by_lead"]) == list(predictor.input_format.leads)
    assert told["explained"]["by_lead"] == pytest.approx(expected.by_lead, abs=0.02)  # resampled with its neighbours
    levels = told["explained"]["levels"]
    assert list(levels) == list(predictor.input_format.leads) and told["explained"]["fs"] == 100
    assert all(len(row) == 1000 and max(map(abs, row)) <= 100 for row in levels.values())
    assert levels != other["explained"]["levels"]
    assert "class XX: unknown" in server.answer(*files, explain="XX")[1]["error"]


def test_an_answer_stays_if_its_page_cannot_be_explained(record: Path, tmp_path: Path) -> None:
    for suffix in (".hea", ".dat"):
        shutil.copy(record / f"r{suffix}", tmp_path)
    bundle = load_bundle("synthetic").bundles[0]
    predictor = Predictor([bundle])
    prepared = predictor.prepare(tmp_path / "r.hea")
    last = replace(prepared, signal=prepared.signal[-1:], start_s=prepared.start_s[-1:])
    shares = predictor.predict_prepared([prepared, last]).familiar
    assert shares[1] < shares[0]
    refusing = Predictor([replace(bundle, refusal=Refusal((), float(shares.mean()), 0.0))])
    found = answer(refusing, load_delineator(), tmp_path, {}, 20.0, "MI")
    assert found["explained"] is None and found["start_s"] == 20 and "MI" in found["probabilities"]
    assert found["cautions"][-1].startswith(
        "no explanation of the page from 20.0 s on: not answered, because it is unlike"
    )
    assert answer(refusing, load_delineator(), tmp_path, {}, 10.0, "MI")["explained"]["label"] == "MI"


def test_an_explanation_has_its_own_cautions() -> None:
    cautions = ("explains the network", "a gap")
    explanation = Explanation("r", "MI", 0.5, 0.0, np.zeros((1, 4)), np.ones((1, 4)), ("I",), 100.0, cautions=cautions)
    found = _explained_as_json(explanation, ["a gap"])
    assert found is not None and found["cautions"] == ["explains the network"]
    assert (found["label"], found["by_lead"], found["levels"]) == ("MI", {"I": 1.0}, {"I": [100] * 4})
    assert _explained_as_json(None, []) is None


def test_what_a_table_does_not_say_is_asked_for_in_the_words_of_the_page(server: Server, record: Path) -> None:
    status, found = server.answer(record / "r.csv")
    assert status == 422 and found["error"].startswith("r.csv: does not say the sampling frequency, the unit")
    assert "fs=" not in found["error"] and "--fs" not in found["error"] and "/" not in found["error"]
    page = (STATIC / "page.html").read_text()
    for name, template in FIELDS.items():
        words = template.partition("“")[2].removesuffix("”")
        assert re.search(rf"<label[^>]*>{words}[^<]*\s*<(input|select) id=\"{name}\"", page), words
    assert all(template.partition("“")[2].removesuffix("”") in found["error"] for template in list(FIELDS.values())[:2])


def test_a_record_whose_unit_or_electrodes_cannot_be_right_gets_no_answer(server: Server, record: Path) -> None:
    status, found = server.answer(record / "r.csv", fs=500, units="V")
    assert status == 422 and "not answered, because the unit cannot be right" in found["error"]
    shown = found["record"]
    assert "probabilities" not in shown and shown["signal"] is None
    assert "unit" in [finding["code"] for finding in shown["findings"]]
    other_leads = ",".join(["aVR", *LEADS[1:3], "I", *LEADS[4:]])
    status, found = server.answer(record / "s.csv", fs=500, units="mV", leads=other_leads)
    assert status == 422 and "the names of the electrodes cannot be right" in found["error"]
    assert len(found["record"]["signal"]["microvolts"]) == 12 and "probabilities" not in found["record"]


def test_age_and_sex_of_a_file(server: Server, record: Path, tmp_path: Path) -> None:
    header = tmp_path / "r.hea"
    header.write_bytes((record / "r.hea").read_bytes() + b"# Age: 63\n# Sex: Female\n")
    assert server.answer(header, record / "r.dat")[1]["patient"] == {"age": 63, "sex": "female"}
    assert server.answer(record / "r.hea", record / "r.dat")[1]["patient"] == {"age": None, "sex": None}


def test_samples_that_are_invalid_have_no_value() -> None:
    signal = np.zeros((1, 30), np.float32)
    signal[0, :2] = (np.nan, 1.2344)
    found = signal_of_page(Record(signal, 2.0, ("I",), "r"), 0.0)
    assert found == {"fs": 2.0, "leads": ["I"], "microvolts": [[None, 1234, *[0] * 19]]}


def test_a_matrix_without_a_header_is_told_what_it_does_not_say(server: Server, record: Path, tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / "r.mat", {"val": read_record(record / "r.hea").signal * 1000})
    status, found = server.answer(tmp_path / "r.mat")
    assert status == 422 and "r.mat: does not say the names of the leads, the sampling frequency" in found["error"]
    assert found["error"].endswith("or r.hea or r.info.")
    status, found = server.answer(tmp_path / "r.mat", fs=500, units="uV", leads=",".join(LEADS))
    expected = server.answer(record / "r.hea", record / "r.dat")[1]
    assert status == 200 and found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    (tmp_path / "s.dat").write_bytes(b"x")
    assert "no header" in server.answer(tmp_path / "r.mat", tmp_path / "s.dat")[1]["error"]


def test_the_segments_of_a_record_come_together(server: Server, record: Path, tmp_path: Path) -> None:
    import wfdb

    signal = read_record(record / "r.hea").signal.T.astype(float)
    for name, part in (("a", signal[:6000]), ("b", signal[6000:])):
        units = {"units": ["mV"] * 12, "sig_name": list(LEADS), "fmt": ["16"] * 12}
        gains = {"adc_gain": [1000.0] * 12, "baseline": [0] * 12}
        wfdb.wrsamp(name, fs=500, p_signal=part, write_dir=str(tmp_path), **units, **gains)
    master, length = tmp_path / "m.hea", len(signal)
    master.write_text(f"m/2 12 500 {length}\na 6000\nb {length - 6000}\n")
    parts = [tmp_path / name for name in ("a.hea", "a.dat", "b.hea", "b.dat")]
    status, found = server.answer(*parts, master)
    expected = server.answer(record / "r.hea", record / "r.dat")[1]
    assert status == 200 and (found["name"], found["seconds"]) == ("m.hea", 30)
    assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)

    assert "2 records found" in server.answer(*parts)[1]["error"]
    assert "b.hea: cannot be read" in server.answer(master, *parts[:2])[1]["error"]
    master.write_text(f"m/2 12 500 {length}\na 6000\n../b {length - 6000}\n")
    status, found = server.answer(master, *parts[:2])
    assert status == 422 and "'../b.hea' lies outside" in found["error"]
    master.write_text("m/2 12 500 12000\na 6000\nm 6000\n")
    assert server.answer(master, *parts[:2])[0] == 422


HEADER = b"r 12 500 5000\n" + b"r.dat 16 1000/mV 16 0 0 0 0 I\n" * 12


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("r.hea", b"", "r.hea: empty"),
        ("r.hea", b"\xff\xfe" * 100, "r.hea: record line"),
        ("r.hea", b"9" * 10**6, "r.hea: record line"),
        ("r.hea", b"a 100000 100 50\n" + b"a 16 1\n" * 100_000, "leads I, II"),
        ("r.hea", HEADER.replace(b"5000", b"999999999999"), "r.hea: "),
        ("r.hea", HEADER.replace(b"r.dat", b"/etc/passwd"), "r.hea: "),
        ("r.hea", HEADER.replace(b"r.dat", b"../r.dat"), "r.hea: "),
        ("r.dat", b"x" * 1000, "no header"),
        ("r.mat", b"x" * 1000, "r.mat: not a readable MATLAB file"),
        ("r.exe", b"x" * 1000, "belongs to no known format"),
        ("r.csv", b'"' + b"x" * 200_000, "r.csv: "),
        ("r.npy", b"\x93NUMPY\x01\x00" + b"\xff" * 500, "r.npy: "),
        ("r.npz", b"PK\x03\x04" + b"\0" * 500, "r.npz: "),
        ("r.edf", b"0" * 256, "r.edf: "),
        ("r.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 500, "r.dcm: "),
        ("r.xml", b"<!DOCTYPE a [<!ENTITY b 'bbbb'>]><a>&b;</a>", "r.xml: "),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(
    server: Server, tmp_path: Path, temporary: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    status, found = server.answer(tmp_path / name)
    assert status == 422 and sentence in found["error"], found
    assert str(temporary) not in found["error"] and "\n" not in found["error"] and "Traceback" not in found["error"]


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        (["../../r.hea", "/tmp/x/r.dat"], 200),
        (["C:\\ecg\\r.hea", "..\\r.dat"], 200),
        ([".r.hea", "r.dat"], 200),
        (["r.hea", "R.HEA"], 400),
        (["..", "r.dat"], 400),
        (["", "r.dat"], 400),
        (["x" * 500, "r.dat"], 400),
        (["r\0\r\n.hea", "r.dat"], 200),
        (["r.hea", "s.hea"], 422),
    ],
)
def test_names_of_files_lead_nowhere(
    server: Server, record: Path, temporary: Path, names: list[str], outcome: int
) -> None:
    header, signals = ((record / name).read_bytes() for name in ("r.hea", "r.dat"))
    before = {path for path in temporary.parent.rglob("*") if path.is_file()}
    query = "&".join(f"file={quote(name)}" for name in names) + f"&size={len(header)}"
    status, found, _ = server.request("POST", f"/answer?{query}", header + signals)
    assert status == outcome, found
    assert {path for path in temporary.parent.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "query",
    [
        "",
        "file=a.csv&size=3",
        "file=a.hea&file=a.dat",
        "file=a.hea&file=a.dat&size=-1",
        "file=a.hea&file=a.dat&size=99",
        "file=a.hea&file=a.dat&size=x",
        "file=a.csv&fs=-5",
        "file=a.csv&fs=nan",
        "file=a.csv&start=inf",
        "example=many",
        "&".join(f"file={number}.csv&size=0" for number in range(FILES_LIMIT + 1)),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(server: Server, query: str) -> None:
    status, found, _ = server.request("POST", f"/answer?{query}", b"some")
    assert status == 400 and found["error"].endswith("."), found


# ------------------------------------------------------------------ too much


def test_500_megabytes_are_refused_before_they_are_read(server: Server) -> None:
    sent = Counter[str]()

    def body() -> Iterator[bytes]:
        for _ in range(500):
            sent["megabytes"] += 1
            yield bytes(10**6)

    for headers in ({"Transfer-Encoding": "chunked"}, {"Content-Length": str(500 * 10**6)}):
        chunked = "Transfer-Encoding" in headers
        sent.clear()
        status, found, _ = server.request("POST", "/answer?file=a.csv", body(), headers, encode_chunked=chunked)
        assert status == 413 and f"more than {MEGABYTES} MB" in found["error"]
        assert sent["megabytes"] < 50


def test_an_archive_that_grows_beyond_memory_costs_one_answer(server: Server, tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<i2", "fortran_order": False, "shape": (12, 30_000_000)}
    np.lib.format.write_array_header_1_0(header, shape)
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("signal.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(72):
            member.write(bytes(10**7))
    assert (tmp_path / "bomb.npz").stat().st_size < 10**6
    leads = "I,II,III,aVR,aVL,aVF,V1,V2,V3,V4,V5,V6"
    status, found = server.answer(tmp_path / "bomb.npz", fs=500, units="uV", leads=leads)
    assert status == 422 and re.search("not answered|Unable to allocate", found["error"]), found
    assert server.request("POST", "/answer?example=0")[0] == 200


def test_a_thousand_requests_at_once_are_answered_or_told_to_come_again(server: Server) -> None:
    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        query, body = (("example=0", b""), ("file=a.hea", b"x" * 500), ("file=a.csv", b""))[number % 3]
        length = 10**9 if number % 3 == 2 else len(body)
        head = f"POST /answer?{query} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {length}\r\n\r\n"
        writer.write(head.encode() + body)
        line = await reader.readline()
        writer.close()
        return int(line.split()[1])

    async def all_of_them() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(1000)))

    found = Counter(asyncio.run(all_of_them()))
    assert set(found) <= {200, 413, 422, 503} and found[503] and found[200], found
    assert server.request("POST", "/answer?example=0")[0] == 200


def test_requests_that_are_no_http_end_nothing(server: Server) -> None:
    import socket

    for text in (b"\x16\x03\x01" * 100, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"A" * 200_000):
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.sendall(text)
            assert connection.recv(12).split()[1:] in ([b"400"], [b"403"])
    assert server.request("GET", "/")[0] == 200


# ------------------------------------------------------------------ for this machine's page alone


def test_requests_of_other_sites_are_refused(server: Server) -> None:
    own = f"127.0.0.1:{server.port}"
    for headers, outcome in (
        ({"Host": "example.org"}, 403),
        ({"Host": f"example.org:{server.port}"}, 403),
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Origin": "http://example.org"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"https://{own}"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"}, 400),  # a request without a file
        ({"Host": f"localhost:{server.port}", "Origin": f"http://localhost:{server.port}"}, 400),
    ):
        status, _, answered = server.request("POST", "/answer", b"", headers)
        assert status == outcome, headers
        assert "access-control-allow-origin" not in answered


def test_the_page_asks_nobody_else(server: Server) -> None:
    assert {"/", "/page.css", "/print.css", "/page.js", "/paper.js", "/icon.svg"} <= set(page_files())
    for path in page_files():
        status, content, headers = server.request("GET", path)
        addresses = re.findall(rb"(?:https?:)?//[\w.]+", content.replace(b"http://www.w3.org/2000/svg", b""))
        assert status == 200 and [a for a in addresses if a != b"//"] == []
        assert "default-src 'none'" in headers["content-security-policy"] and headers["cache-control"] == "no-store"
    scripts = [file.read_text() for file in STATIC.glob("*.js")]
    assert not any(re.search(r"innerHTML|insertAdjacent|document\.write|eval\(", script) for script in scripts)
    # The content security policy forbids code and styles inside of the page.
    assert not re.search(r"<style|<script(?![^>]*src=)|\son\w+=|\sstyle=", (STATIC / "page.html").read_text())


def test_it_listens_on_this_machine_alone_and_keeps_nothing(
    serve: Callable[..., Server], record: Path, tmp_path: Path
) -> None:
    server = serve("synthetic", temporary=tmp_path)
    assert server.answer(record / "r.hea", record / "r.dat")[0] == 200
    assert server.answer(record / "r.csv")[0] == 422
    inodes = {line.split()[9]: line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
    held = [str(file.readlink()) for file in Path(f"/proc/{server.process.pid}/fd").iterdir()]
    listening = [inodes[h[8:-1]] for h in held if h.startswith("socket:[") and h[8:-1] in inodes]
    assert listening and all(place.startswith("0100007F:") for place in listening)  # 127.0.0.1
    (folder,) = tmp_path.glob(f"{PARTIAL}*")
    assert list((folder / "content").iterdir()) == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, folder / "content"))
    others = psutil.Process(server.process.pid).children(recursive=True)
    assert len(others) >= 2
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0
    assert psutil.wait_procs(others, 10)[1] == [], "processes that are left"
    assert not folder.exists()
    assert server.process.stdout is not None and server.process.stdout.read() == ""


# ------------------------------------------------------------------ the command


def test_mistakes_of_the_command_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], server: Server) -> None:
    for arguments, sentence in (
        (["--port", str(server.port)], f"port {server.port} cannot be used (Address already in use)"),
        (["--port", "70000"], "port 70000 cannot be used"),
        (["--max-size", "0"], "--max-size 0: expected a positive number"),
        (["--host", "0.0.0.0"], "app: --host: unknown"),
        ([str(tmp_path)], "neither a run nor a bundle"),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(["app", *arguments])
        assert end.value.code == 2 and sentence in capsys.readouterr().err


def test_a_package_that_is_missing_is_named() -> None:
    code = "import sys; sys.modules['starlette'] = None; from einthoven.cli import main; main(['app', '--port', '0'])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 2 and found.stderr.count("\n") == 1 and "install einthoven[app]" in found.stderr
