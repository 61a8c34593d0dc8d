"""Corpora from the publisher's server: parallel, resumable, every file checked against the published SHA-256.

What is on disk and has the right checksum is not fetched again, so a call after a killed one goes on where that
one stopped, and a call after a finished one only checks. A file gets its name when its checksum is right; until
then it is called ``NAME.part``, and a broken transfer continues at its last byte.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from einthoven.atomic import write_text
from einthoven.errors import UserError
from einthoven.files import file_digest

if TYPE_CHECKING:
    import urllib3

SUMS = "SHA256SUMS.txt"  # PhysioNet's name for its list of checksums
RECORD = "SHA256SUMS.txt.sha256"  # what the first download found, as `sha256sum --check` reads it
WORKERS = 16  # small files wait for the network, not for a core
ATTEMPTS = 6  # for each file, over all mirrors
FIRST_WAIT = 0.5  # seconds before the second attempt; doubled each time
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
TIMEOUT = 30.0  # seconds without a byte
TOO_MANY = 20  # failed files after which the rest is not tried
BLOCK = 4096  # bytes that the smallest file takes on disk

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """A file of the publisher: its path below the root, and the SHA-256 that it must have."""

    path: str
    sha256: str


class _WrongContentError(UserError):
    """A file arrived whole, and is not the expected one."""


class _StoppedError(Exception):
    """Another file's failure, or the user, ended the download."""


class _TransferError(Exception):
    """A transfer that may be tried again after `wait` seconds; never, if `final`."""

    def __init__(self, reason: str, *, wait: float | None = None, final: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.final = wait, final


def download(
    root: Path,
    mirrors: Sequence[str],
    wanted: Callable[[str], bool],
    size: Callable[[str], int],
    progress: Progress | None = None,
    *,
    sums_sha256: str | None = None,
) -> int:
    """Bring a corpus to `root`, whole and checked.

    Parameters
    ----------
    root : Path
        Where the files go, under the publisher's own paths.
    mirrors : sequence of str
        Addresses of the folder that holds ``SHA256SUMS.txt``; the next is asked where one fails.
    wanted : callable
        Path in that folder -> whether to fetch it.
    size : callable
        Path -> about how many bytes it has, to check the disk with before anything is fetched.
    progress : callable, optional
        ``progress(done, total)`` in files.
    sums_sha256 : str, optional
        SHA-256 of the right ``SHA256SUMS.txt``. Without it the first list is trusted, and later ones have to be equal.

    Returns
    -------
    int
        Files that had to be fetched.

    Raises
    ------
    UserError
        If a mirror's address is not HTTPS, the list of checksums is another than expected, the disk is too small,
        another download runs in `root`, or a file could not be had: what was fetched stays, and the next call goes on
        from there.
    """
    import filelock
    import urllib3

    for address in mirrors:
        _check_address(address)
    if not mirrors:
        raise UserError("data.mirrors is empty; expected at least one https:// address.")
    if sums_sha256 is not None and not _is_digest(sums_sha256):
        raise UserError(f"data.sha256sums={sums_sha256[:80]}: expected a SHA-256 of 64 hexadecimal digits, or null.")
    root.mkdir(parents=True, exist_ok=True)
    timeout = urllib3.Timeout(connect=10.0, read=TIMEOUT)
    redirects = urllib3.Retry(connect=0, read=0, status=0, other=0, redirect=3, respect_retry_after_header=False)
    pool = urllib3.PoolManager(maxsize=WORKERS, block=True, timeout=timeout, retries=redirects)
    try:
        with filelock.FileLock(root / ".download.lock", timeout=0):
            return _Download(root, [m.rstrip("/") for m in mirrors], pool, progress).run(wanted, size, sums_sha256)
    except filelock.Timeout:
        raise UserError(f"{root}: another download into this folder is running; let it finish or stop it.") from None


class _Download:
    """One call of `download`: what its threads share."""

    def __init__(
        self, root: Path, mirrors: Sequence[str], pool: urllib3.PoolManager, progress: Progress | None
    ) -> None:
        self.root, self.mirrors, self.pool, self.progress = root, mirrors, pool, progress
        self.stop = threading.Event()

    def run(self, wanted: Callable[[str], bool], size: Callable[[str], int], sums_sha256: str | None) -> int:
        """Fetch what is not there yet."""
        items = [item for item in self._published(sums_sha256) if wanted(item.path)]
        if not items:
            raise UserError(f"{SUMS} of {self.mirrors[0]} lists none of the files asked for; is this the right mirror?")
        present = self._present(items)
        missing = [item for item, there in zip(items, present, strict=True) if not there]
        _check_disk(self.root, sum(-(-size(item.path) // BLOCK) * BLOCK for item in missing))
        self._fetch_all(missing, done=len(items) - len(missing), total=len(items))
        return len(missing)

    def _published(self, expected: str | None) -> list[Item]:
        """The publisher's list; what is here already counts if it is the expected one."""
        file, record = self.root / SUMS, self.root / RECORD
        digest = expected or _recorded(record)
        if not file.exists() or (digest and file_digest(file) != digest):
            try:
                self._fetch(Item(SUMS, digest))
            except _WrongContentError as error:
                advice = "data.sha256sums=null takes any" if expected else f"delete {record} to take this one"
                raise UserError(
                    f"{str(error)[:-1]}; each version of the data has a list of its own ({advice})."
                ) from None
        if not record.exists():
            write_text(record, f"{file_digest(file)}  {SUMS}\n")
        return parse_sums(file)

    def _present(self, items: Sequence[Item]) -> list[bool]:
        def intact(item: Item) -> bool:
            file = self.root / item.path
            return file.is_file() and file_digest(file) == item.sha256

        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(intact, items))

    def _fetch_all(self, items: Sequence[Item], *, done: int, total: int) -> None:
        failures: list[str] = []
        if self.progress is not None:
            self.progress(done, total)
        with ThreadPoolExecutor(WORKERS) as threads:
            try:
                for future in as_completed([threads.submit(self._fetch, item) for item in items]):
                    error = future.exception()
                    if isinstance(error, UserError):
                        failures.append(str(error))
                    elif error is not None:
                        raise error  # a full disk, a bug: not the server's fault
                    done += error is None
                    if self.progress is not None:
                        self.progress(done, total)
                    if len(failures) >= TOO_MANY:
                        break
            finally:  # also where the user presses Ctrl-C
                self.stop.set()
                threads.shutdown(cancel_futures=True)
        if failures:
            raise UserError(
                f"{total - done} of {total} files could not be downloaded; {failures[0]} "
                "What arrived is kept: the same command goes on from there."
            )

    def _fetch(self, item: Item) -> None:
        """Fetch one file: several attempts, over all mirrors."""
        target = self.root / item.path
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        gone: set[str] = set()  # mirrors that do not have this file
        reason, mismatch = "", False
        for attempt in range(ATTEMPTS):
            mirror = self.mirrors[attempt % len(self.mirrors)]
            if mirror in gone:
                continue
            try:
                self._transfer(f"{mirror}/{quote(item.path)}", part)
                mismatch = False
                if item.sha256 and (found := file_digest(part)) != item.sha256:
                    part.unlink()  # which byte is wrong cannot be known
                    mismatch = True
                    raise _TransferError(f"SHA-256 {found[:12]}… found, expected {item.sha256[:12]}…")
            except _TransferError as error:
                reason = str(error)
                if error.final:
                    gone.add(mirror)
                    continue
                delay = FIRST_WAIT * 2**attempt if error.wait is None else error.wait
                if attempt < ATTEMPTS - 1:
                    self.stop.wait(min(delay, LONGEST_WAIT))
                if self.stop.is_set():
                    raise _StoppedError from None
                continue
            # Not synced to the disk: after a loss of power, the next call finds a wrong checksum and fetches anew.
            part.replace(target)
            return
        kind = _WrongContentError if mismatch else UserError
        raise kind(f"{item.path}: {reason} (from {', '.join(self.mirrors)}).")

    def _transfer(self, url: str, part: Path) -> None:
        """One request; continues where an earlier one broke off, if the server can."""
        import urllib3

        have = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={have}-", "Accept-Encoding": "identity"} if have else {}
        try:
            response = self.pool.request("GET", url, headers=headers, preload_content=False)
            try:
                if response.status == 416:  # the part is no prefix of the file
                    part.unlink()
                    raise _TransferError("the server refused to continue a partial file", wait=0.0)
                if response.status not in (200, 206):
                    raise _refusal(response)
                continued = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                    f"bytes {have}-"
                )
                with part.open("ab" if continued else "wb") as file:
                    for chunk in response.stream(1 << 16):
                        if self.stop.is_set():
                            raise _StoppedError
                        file.write(chunk)
            finally:
                response.drain_conn() if response.status not in (200, 206) else response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            raise _TransferError(_sentence(error)) from None


def parse_sums(file: Path) -> list[Item]:
    """Read ``SHA256SUMS.txt``: a checksum and a path on each line.

    Raises
    ------
    UserError
        If a line is not of that form, or a path leads out of the folder.
    """
    items = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        checksum, _, name = line.strip().partition(" ")
        path = PurePosixPath(name.strip().removeprefix("*"))
        if not _is_digest(checksum.lower()) or not path.parts:
            raise UserError(f"{file}: line {number} is {line[:80]!r}; expected a SHA-256 and a path.")
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
            raise UserError(f"{file}: line {number} names {str(path)[:80]!r}, which leads out of the folder.")
        items.append(Item(str(path), checksum.lower()))
    return items


def _recorded(record: Path) -> str:
    """SHA-256 of the list of the first download; empty if there was none.

    Raises
    ------
    UserError
        If the record is damaged.
    """
    if not record.exists():
        return ""
    digest = record.read_text(errors="replace").partition(" ")[0]
    if not _is_digest(digest):
        raise UserError(f"{record}: {digest[:80]!r} found, expected the SHA-256 of {SUMS}; restore it, or delete it.")
    return digest


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not local):
        raise UserError(f"data.mirrors: {address!r} found; expected https://…")


def _check_disk(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; make room, or name another "
            "disk with data.root."
        )


def _refusal(response: urllib3.BaseHTTPResponse) -> _TransferError:
    import urllib3

    reason = f"the server answered {response.status} {response.reason or ''}".rstrip()
    if response.status in (408, 425, 429) or response.status >= 500:
        asked = response.headers.get("Retry-After")
        delay = None
        if asked:
            with contextlib.suppress(urllib3.exceptions.InvalidHeader, OverflowError):
                delay = urllib3.Retry().parse_retry_after(asked)
        return _TransferError(reason, wait=delay)
    return _TransferError(reason, final=True)


def _sentence(error: Exception) -> str:
    """What a transport error says, without the objects that urllib3 puts before it."""
    cause = getattr(error, "reason", None) or error
    text = " ".join(str(cause).split())
    return re.sub(r"^.*?(HTTPS?Connection\w*\([^)]*\)|>): ", "", text) or type(cause).__name__
