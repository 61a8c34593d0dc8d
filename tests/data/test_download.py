"""The download against a server on this machine that misbehaves as servers do."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from einthoven.data.sources import download as module
from einthoven.data.sources.download import RECORD, SUMS, _parse_sums, download
from einthoven.data.sources.ptbxl import MIRRORS, PTBXL, SUMS_SHA256
from einthoven.errors import UserError

FILES = {f"records100/{n // 10:02d}/{n:05d}.dat": os.urandom(3000 + 7 * n) for n in range(40)}
FILES |= {"ptbxl_database.csv": b"a,b\n" * 50_000, "records500/00/00000.dat": b"not asked for"}

Fault = Callable[[BaseHTTPRequestHandler, bytes], bool]  # True: it has answered


class Server:
    """Serves FILES over HTTP/1.1; `faults` maps a path to what happens on its first, second, … request."""

    def __init__(self, files: dict[str, bytes] = FILES) -> None:
        self.files = dict(files)
        sums = "".join(f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items())
        self.files[SUMS] = sums.encode()
        self.faults: dict[str, list[Fault]] = {}
        self.asked: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.delay = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = self.path.removeprefix("/base/")
                outer.asked[path] += 1
                time.sleep(outer.delay)
                data = outer.files.get(path)
                if outer.faults.get(path) and outer.faults[path].pop(0)(self, data or b""):
                    return
                if data is None:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                first = 0
                if asked := self.headers.get("Range"):
                    outer.ranges.append(path)
                    first = int(asked.removeprefix("bytes=").removesuffix("-"))
                if first >= len(data) > 0:
                    self.send_response(416)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206 if first else 200)
                if first:
                    self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
                self.send_header("Content-Length", str(len(data) - first))
                self.end_headers()
                half = (first + len(data)) // 2
                self.wfile.write(data[first:half])
                time.sleep(outer.delay)  # in the middle of a file
                self.wfile.write(data[half:])

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """Clients that were killed are no news here."""

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/base"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    it = Server()
    yield it
    it.http.shutdown()
    it.http.server_close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of hundredths instead of seconds."""
    monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "TIMEOUT", 1.0)


def wanted(path: str) -> bool:
    return not path.startswith("records500/")


def fetch(server: Server, root: Path, *more: str) -> int:
    return download(root, [server.url, *more], wanted, lambda path: len(FILES[path]))


def whole(root: Path) -> bool:
    """Whether exactly what was asked for is there, byte for byte."""
    names = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    expected = {path: data for path, data in FILES.items() if wanted(path)}
    assert names - {SUMS, RECORD, ".download.lock"} == set(expected)
    return all((root / path).read_bytes() == data for path, data in expected.items())


def status(code: int, **headers: str) -> Fault:
    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    return answer


def cut(share: float) -> Fault:
    """Promise everything, send a part, hang up."""

    def answer(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: int(share * len(data))])
        handler.close_connection = True
        return True

    return answer


def corrupted(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(bytes([data[0] ^ 1]) + data[1:])
    return True


def shortened(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
    """A truncated file, with a length that fits."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data) // 2))
    handler.end_headers()
    handler.wfile.write(data[: len(data) // 2])
    return True


def hung(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
    time.sleep(2.5)  # longer than TIMEOUT here
    handler.close_connection = True
    return True


def test_everything_asked_for_arrives_and_nothing_else(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    root = tmp_path / "new" / "folder"
    count = download(root, [server.url + "/"], wanted, lambda path: 1, lambda done, total: seen.append((done, total)))
    assert count == 41 and whole(root)
    assert seen[0] == (0, 41) and seen[-1] == (41, 41) and sorted(seen) == seen


def test_a_second_call_checks_and_fetches_nothing(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    server.asked.clear()
    assert fetch(server, tmp_path) == 0
    assert not server.asked


def test_a_file_that_was_damaged_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / "records100/00/00003.dat").write_bytes(b"damaged")
    assert fetch(server, tmp_path) == 1 and whole(tmp_path)


@pytest.mark.parametrize(
    "faults",
    [
        [cut(0.5)],
        [cut(0.0), cut(0.9), cut(0.1)],
        [corrupted],
        [shortened],
        [status(503, Retry_After="0"), status(429, Retry_After="0")],
        [status(500), status(502)],
        [hung],
        [status(503, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")],
        [status(503, Retry_After="soon")],
    ],
    ids=["dropped", "dropped thrice", "corrupted", "truncated", "busy", "broken", "silent", "date", "nonsense"],
)
def test_a_fault_that_passes_is_overcome(server: Server, tmp_path: Path, faults: list[Fault]) -> None:
    for path in list(FILES)[::9]:
        server.faults[path] = list(faults)
    fetch(server, tmp_path)
    assert whole(tmp_path)


def test_a_broken_transfer_goes_on_at_its_last_byte(server: Server, tmp_path: Path) -> None:
    server.faults["ptbxl_database.csv"] = [cut(0.7)]
    fetch(server, tmp_path)
    assert server.ranges == ["ptbxl_database.csv"] and whole(tmp_path)


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    def all_of_it(handler: BaseHTTPRequestHandler, data: bytes) -> bool:
        return cut(1.0)(handler, data)

    server.faults["ptbxl_database.csv"] = [cut(0.7), all_of_it]
    fetch(server, tmp_path)
    assert whole(tmp_path)


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "records100/00").mkdir(parents=True)
    (tmp_path / "records100/00/00000.dat.part").write_bytes(bytes(9000))
    fetch(server, tmp_path)
    assert whole(tmp_path)


def test_retry_after_is_waited_for(server: Server, tmp_path: Path) -> None:
    server.faults["ptbxl_database.csv"] = [status(429, Retry_After="1")]
    start = time.monotonic()
    fetch(server, tmp_path)
    assert time.monotonic() - start >= 1.0 and whole(tmp_path)


def test_a_slow_server_is_borne(server: Server, tmp_path: Path) -> None:
    server.delay = 0.05
    fetch(server, tmp_path)
    assert whole(tmp_path)


def test_a_missing_file_is_named_the_rest_is_kept(server: Server, tmp_path: Path) -> None:
    lost = server.files.pop("records100/01/00010.dat")
    with pytest.raises(UserError, match=r"1 of 41 files .*records100/01/00010.dat: the server answered 404") as refusal:
        fetch(server, tmp_path)
    assert "\n" not in str(refusal.value) and server.asked["records100/01/00010.dat"] == 1
    server.files["records100/01/00010.dat"] = lost
    assert fetch(server, tmp_path) == 1 and whole(tmp_path)


def test_what_one_mirror_lacks_comes_from_the_next(server: Server, tmp_path: Path) -> None:
    other = Server()
    server.files.pop("records100/01/00010.dat")
    server.faults["records100/02/00020.dat"] = [status(500)] * 6
    fetch(server, tmp_path, other.url)
    assert whole(tmp_path)
    other.http.shutdown()
    other.http.server_close()


def test_a_server_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"SHA256SUMS\.txt: .*refused") as refusal:
        download(tmp_path, ["http://127.0.0.1:9/base"], wanted, lambda path: 1)
    assert "\n" not in str(refusal.value) and "object at" not in str(refusal.value)


def test_a_server_that_breaks_down_ends_the_download_soon(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOO_MANY", 3)
    monkeypatch.setattr(module, "WORKERS", 2)
    for path in FILES:
        server.faults[path] = [status(500)] * 20
    with pytest.raises(UserError, match="could not be downloaded"):
        fetch(server, tmp_path)
    assert len(server.asked) < 20


def test_a_full_disk_is_said_before_anything_is_fetched(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"GB are needed and .* GB are free"):
        download(tmp_path, [server.url], wanted, lambda path: 10**15)
    assert set(server.asked) == {SUMS}


def test_nothing_to_fetch_is_a_wrong_mirror(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="right mirror"):
        download(tmp_path, [server.url], lambda path: False, lambda path: 1)


@pytest.mark.parametrize("address", ["http://example.org/files", "ftp://127.0.0.1/x", "physionet.org/files", ""])
def test_only_https_is_asked(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match="https://"):
        download(tmp_path, [address], wanted, lambda path: 1)


@pytest.mark.parametrize(
    "line",
    [f"{'0' * 64} ../escape", f"{'0' * 64} /etc/passwd", f"{'0' * 64} a\\b", "abc file", f"{'g' * 64} file", "0" * 64],
)
def test_a_list_of_checksums_that_is_none_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / SUMS).write_text(f"{'a' * 64} fine\n{line}\n")
    with pytest.raises(UserError, match="line 2"):
        _parse_sums(tmp_path / SUMS)


def pinned(server: Server, root: Path, digest: str | None, *more: str) -> int:
    mirrors = [server.url, *more]
    return download(root, mirrors, wanted, lambda path: len(FILES[path]), sums_sha256=digest)


@pytest.fixture
def other() -> Iterator[Server]:
    """A mirror of another version: one file is another, and the list says so."""
    it = Server(FILES | {"ptbxl_database.csv": b"a,b,c"})
    yield it
    it.http.shutdown()
    it.http.server_close()


def test_a_list_of_checksums_has_to_be_the_expected_one(server: Server, other: Server, tmp_path: Path) -> None:
    digest = hashlib.sha256(server.files[SUMS]).hexdigest()
    with pytest.raises(
        UserError, match=r"SHA256SUMS\.txt: SHA-256 .* found, expected .*; each version.*null takes any"
    ):
        pinned(other, tmp_path / "a", digest)
    assert [file.name for file in (tmp_path / "a").rglob("*")] == [".download.lock"]
    assert pinned(other, tmp_path / "b", digest, server.url) == 41  # the second mirror has it
    assert server.asked[SUMS] == 1 and whole(tmp_path / "b")


def test_a_list_that_was_damaged_on_disk_is_fetched_again(server: Server, tmp_path: Path) -> None:
    for digest in (hashlib.sha256(server.files[SUMS]).hexdigest(), None):
        pinned(server, tmp_path, digest)
        sums = bytearray(server.files[SUMS])
        sums[70] ^= 1
        (tmp_path / SUMS).write_bytes(sums)
        assert pinned(server, tmp_path, digest) == 0 and whole(tmp_path)
        (tmp_path / SUMS).write_bytes(server.files[SUMS][:100])  # as a copy that broke off
        assert pinned(server, tmp_path, digest) == 0 and whole(tmp_path)


def test_without_an_expected_list_the_first_one_is_trusted(server: Server, other: Server, tmp_path: Path) -> None:
    pinned(server, tmp_path, None)
    done = subprocess.run(["sha256sum", "--check", RECORD], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout == f"{SUMS}: OK\n"
    (tmp_path / SUMS).unlink()
    with pytest.raises(UserError, match=r"each version of the data has a list of its own \(delete .* to take this one"):
        pinned(other, tmp_path, None)
    (tmp_path / RECORD).unlink()
    assert pinned(other, tmp_path, None) == 1 and (tmp_path / "ptbxl_database.csv").read_bytes() == b"a,b,c"


@pytest.mark.parametrize("digest", ["abc", "", "B7" * 32, "g" * 64, f"{'a' * 64} "])
def test_an_expected_list_is_named_by_a_sha256(server: Server, tmp_path: Path, digest: str) -> None:
    with pytest.raises(UserError, match=r"data\.sha256sums=.*: expected a SHA-256 of 64 hexadecimal digits, or null"):
        pinned(server, tmp_path, digest)
    (tmp_path / RECORD).write_text(f"{digest}\n")
    if digest.strip() != "a" * 64:
        with pytest.raises(UserError, match="expected the SHA-256 of SHA256SUMS"):
            fetch(server, tmp_path)


def test_the_option_names_the_list_of_the_version_that_is_downloaded() -> None:
    from omegaconf import OmegaConf

    option = OmegaConf.load(Path(__file__).parents[2] / "conf" / "data" / "ptbxl.yaml")
    assert option.sha256sums == SUMS_SHA256 and option.mirrors == list(MIRRORS) and "1.0.3" in MIRRORS[0]


def test_two_downloads_into_one_folder_do_not_meet(server: Server, tmp_path: Path) -> None:
    import filelock

    with filelock.FileLock(tmp_path / ".download.lock"), pytest.raises(UserError, match="another download"):
        fetch(server, tmp_path)


def test_killed_at_any_moment_the_next_call_finishes(server: Server, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from einthoven.data.sources.download import download; "
        "download(Path(sys.argv[1]), [sys.argv[2]], lambda p: not p.startswith('records500/'), lambda p: 1)"
    )
    rng = np.random.default_rng()
    for kill in range(int(os.environ.get("EINTHOVEN_KILLS", "3"))):
        root, server.delay = tmp_path / str(kill), 0.1
        server.asked.clear()
        process = subprocess.Popen([sys.executable, "-c", code, str(root), server.url])
        requests = rng.integers(1, 42)  # of 42, the list of checksums among them
        while process.poll() is None and server.asked.total() < requests:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.3))  # asked, answered, written, renamed
        process.send_signal(signal.SIGKILL)
        process.wait()
        arrived = [path for path in FILES if (root / path).is_file()]
        for path in arrived:
            assert (root / path).read_bytes() == FILES[path]  # never a half under the real name
        server.delay = 0.0
        assert fetch(server, root) <= 41 - len(arrived)
        assert whole(root)


def test_a_corpus_is_downloaded_packed_and_not_asked_for_again(corpus: Path, tmp_path: Path) -> None:
    files = {str(file.relative_to(corpus)): file.read_bytes() for file in corpus.rglob("*") if file.is_file()}
    server = Server({path: data for path, data in files.items() if "stores" not in path})
    source = PTBXL(tmp_path / "ptb-xl", 100, tmp_path / "cache", download=True, mirrors=[server.url], sha256sums=None)
    store = source.open()
    assert len(store.signals) == 48 and not any(path.startswith("records500") for path in server.asked)
    np.testing.assert_array_equal(store.signals, PTBXL(corpus, 100, tmp_path / "cache").open().signals)
    server.http.shutdown()
    server.http.server_close()
    assert source.open().fingerprint == store.fingerprint  # all is there: the server may be gone
