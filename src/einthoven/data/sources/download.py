"""Download a corpus from its publisher: parallel, resumable, each file checked against the published SHA-256.

A file that is on the disk with the right checksum is not downloaded again. So a call after an interrupted one continues
where that one stopped, and a call after a complete one only checks. A file gets its name when its checksum is right.
Until then it is called ``NAME.part``, and an interrupted transfer continues at its last byte.
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

from einthoven.atomic import explain_write, write_text
from einthoven.errors import UserError
from einthoven.files import file_digest

if TYPE_CHECKING:
    import urllib3

SUMS = "SHA256SUMS.txt"  # the name of the list of checksums on PhysioNet
RECORD = "SHA256SUMS.txt.sha256"  # the checksum of that list at the first download, as `sha256sum --check` reads it
WORKERS = 16  # threads; small files wait for the network, not for a core
ATTEMPTS = 6  # attempts per file, over all mirrors
FIRST_WAIT = 0.5  # seconds before the second attempt; doubled each time
LONGEST_WAIT = 60.0  # seconds, also if a server asks for a longer wait
TIMEOUT = 30.0  # seconds without a byte
TOO_MANY = 20  # after this number of failed files, the others are not tried
BLOCK = 4096  # bytes that the smallest file uses on the disk

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Item:
    """A file of the publisher: its path below the root and its expected SHA-256."""

    path: str
    sha256: str


class _WrongContentError(UserError):
    """A complete file has another checksum than expected."""


class _StoppedError(Exception):
    """The download was ended by the failure of another file or by the user."""


class _TransferError(Exception):
    """A failed transfer. It may be tried again after `wait` seconds, but not if it `is_final`."""

    def __init__(self, reason: str, *, wait: float | None = None, is_final: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.is_final = is_final


def download(
    root: Path,
    mirrors: Sequence[str],
    is_wanted: Callable[[str], bool],
    estimate_size: Callable[[str], int],
    progress: Progress | None = None,
    *,
    sums_sha256: str | None = None,
) -> int:
    """Download the wanted files of a corpus to `root`, and check them.

    Parameters
    ----------
    root : Path
        Folder for the files, with the same paths as at the publisher.
    mirrors : sequence of str
        Addresses of the folder that contains ``SHA256SUMS.txt``. If one fails, the next one is tried.
    is_wanted : callable
        Path in that folder -> whether to download it.
    estimate_size : callable
        Path -> approximate number of bytes, to check the free space of the disk first.
    progress : callable, optional
        ``progress(done, total)`` in files.
    sums_sha256 : str, optional
        SHA-256 of the right ``SHA256SUMS.txt``. Without it, the first list is trusted, and later ones have to be equal.

    Returns
    -------
    int
        Number of downloaded files.

    Raises
    ------
    UserError
        If the address of a mirror is not HTTPS, if the list of checksums differs from the expected one, if the disk is
        too small, if another download runs in `root`, or if a file could not be downloaded. The files that arrived are
        kept, and the next call continues from there.
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
            task = _Download(root, [mirror.rstrip("/") for mirror in mirrors], pool, progress)
            return task.run(is_wanted, estimate_size, sums_sha256)
    except filelock.Timeout:
        raise UserError(f"{root}: another download into this folder is running; let it finish or stop it.") from None


class _Download:
    """One call of `download`: the data that its threads share."""

    def __init__(
        self, root: Path, mirrors: Sequence[str], pool: urllib3.PoolManager, progress: Progress | None
    ) -> None:
        self.root = root
        self.mirrors = mirrors
        self.pool = pool
        self.progress = progress
        self.stop = threading.Event()

    def run(
        self, is_wanted: Callable[[str], bool], estimate_size: Callable[[str], int], sums_sha256: str | None
    ) -> int:
        """Download the files that are missing or have a wrong checksum; return their number."""
        items = [item for item in self._read_sums(sums_sha256) if is_wanted(item.path)]
        if not items:
            raise UserError(f"{SUMS} of {self.mirrors[0]} lists none of the wanted files; is this the right mirror?")
        missing = [item for item, is_present in zip(items, self._are_present(items), strict=True) if not is_present]
        # A file occupies whole blocks of the disk.
        blocks = sum(-(-estimate_size(item.path) // BLOCK) for item in missing)
        _check_disk(self.root, blocks * BLOCK)
        self._fetch_all(missing, done=len(items) - len(missing), total=len(items))
        return len(missing)

    def _read_sums(self, expected: str | None) -> list[_Item]:
        """Return the list of the publisher; download it unless the expected one is already here."""
        file = self.root / SUMS
        record = self.root / RECORD
        # The list is pinned by the option, or by the checksum that the first download saved.
        digest = expected or _recorded(record)
        if not file.exists() or (digest and file_digest(file) != digest):
            try:
                self._fetch(_Item(SUMS, digest))
            except _WrongContentError as error:
                advice = "data.sha256sums=null takes any" if expected else f"delete {record} to take this one"
                raise UserError(
                    f"{str(error)[:-1]}; each version of the data has a list of its own ({advice})."
                ) from None
        if not record.exists():
            write_text(record, f"{file_digest(file)}  {SUMS}\n")
        return _parse_sums(file)

    def _are_present(self, items: Sequence[_Item]) -> list[bool]:
        """Return which files exist with the right checksum."""

        def is_present(item: _Item) -> bool:
            file = self.root / item.path
            return file.is_file() and file_digest(file) == item.sha256

        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(is_present, items))

    def _fetch_all(self, items: Sequence[_Item], *, done: int, total: int) -> None:
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
                        # A full disk or a bug: another server would not help.
                        raise error
                    done += error is None
                    if self.progress is not None:
                        self.progress(done, total)
                    if len(failures) >= TOO_MANY:
                        break
            finally:
                # This also runs when the user presses Ctrl-C.
                self.stop.set()
                threads.shutdown(cancel_futures=True)
        if failures:
            raise UserError(
                f"{total - done} of {total} files could not be downloaded; {failures[0]} "
                "The files that arrived are kept: run the same command again to continue."
            )

    def _fetch(self, item: _Item) -> None:
        """Download one file, with several attempts over all mirrors."""
        target = self.root / item.path
        part = target.with_name(f"{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        mirrors_without_file: set[str] = set()
        reason = ""
        has_wrong_content = False
        for attempt in range(ATTEMPTS):
            mirror = self.mirrors[attempt % len(self.mirrors)]
            if mirror in mirrors_without_file:
                continue
            try:
                self._transfer(f"{mirror}/{quote(item.path)}", part)
                has_wrong_content = False
                digest = file_digest(part)
                if item.sha256 and digest != item.sha256:
                    # It is not known which byte is wrong, so the next attempt starts from the beginning.
                    part.unlink()
                    has_wrong_content = True
                    raise _TransferError(f"SHA-256 {digest[:12]}… found, expected {item.sha256[:12]}…")
            except _TransferError as error:
                reason = str(error)
                if error.is_final:
                    mirrors_without_file.add(mirror)
                    continue
                # Wait as long as the server asks for, else twice as long after each attempt.
                delay = FIRST_WAIT * 2**attempt if error.wait is None else error.wait
                if attempt < ATTEMPTS - 1:
                    self.stop.wait(min(delay, LONGEST_WAIT))
                if self.stop.is_set():
                    raise _StoppedError from None
                continue
            # The file is not synced to the disk: after a loss of power, the next call finds a wrong checksum.
            part.replace(target)
            return
        error_type = _WrongContentError if has_wrong_content else UserError
        raise error_type(f"{item.path}: {reason} (from {', '.join(self.mirrors)}).")

    def _transfer(self, url: str, part: Path) -> None:
        """Send one request; continue an earlier transfer if the server can do that."""
        import urllib3

        size = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={size}-", "Accept-Encoding": "identity"} if size else {}
        try:
            response = self.pool.request("GET", url, headers=headers, preload_content=False)
            try:
                # 416: the partial file is longer than the file of the server.
                if response.status == 416:
                    part.unlink()
                    raise _TransferError("the server refused to continue a partial file", wait=0.0)
                if response.status not in (200, 206):
                    raise _refusal(response)
                content_range = response.headers.get("Content-Range", "")
                is_continued = response.status == 206 and content_range.startswith(f"bytes {size}-")
                with explain_write(part, part), part.open("ab" if is_continued else "wb") as file:
                    for chunk in response.stream(1 << 16):
                        if self.stop.is_set():
                            raise _StoppedError
                        file.write(chunk)
            finally:
                # After an error, read the rest of the answer, so that the connection can be used again.
                if response.status in (200, 206):
                    response.release_conn()
                else:
                    response.drain_conn()
        except urllib3.exceptions.HTTPError as error:
            raise _TransferError(_sentence(error)) from None


def _parse_sums(file: Path) -> list[_Item]:
    """Read ``SHA256SUMS.txt``: a checksum and a path on each line.

    Raises
    ------
    UserError
        If a line has another form, or if a path leads out of the folder.
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
        items.append(_Item(str(path), checksum.lower()))
    return items


def _recorded(record: Path) -> str:
    """Return the SHA-256 of the list at the first download; empty if there was none. A damaged record is refused."""
    if not record.exists():
        return ""
    digest = record.read_text(errors="replace").partition(" ")[0]
    if not _is_digest(digest):
        raise UserError(f"{record}: {digest[:80]!r} found, expected the SHA-256 of {SUMS}; restore it, or delete it.")
    return digest


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None


def _check_address(address: str) -> None:
    """Accept HTTPS addresses; HTTP only on this machine."""
    parts = urlsplit(address)
    is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not parts.hostname or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not is_local):
        raise UserError(f"data.mirrors: {address!r} found; expected https://…")


def _check_disk(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise UserError(
            f"{root}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; make room, or name another "
            "disk with data.root."
        )


def _refusal(response: urllib3.BaseHTTPResponse) -> _TransferError:
    """Return the error for an answer that is not a file. It is final unless the server may work again later."""
    import urllib3

    reason = f"the server answered {response.status} {response.reason or ''}".rstrip()
    if response.status in (408, 425, 429) or response.status >= 500:
        retry_after = response.headers.get("Retry-After")
        delay = None
        if retry_after:
            with contextlib.suppress(urllib3.exceptions.InvalidHeader, OverflowError):
                delay = urllib3.Retry().parse_retry_after(retry_after)
        return _TransferError(reason, wait=delay)
    return _TransferError(reason, is_final=True)


def _sentence(error: Exception) -> str:
    """Return the message of a transport error without the objects that urllib3 puts before it."""
    cause = getattr(error, "reason", None) or error
    text = " ".join(str(cause).split())
    return re.sub(r"^.*?(HTTPS?Connection\w*\([^)]*\)|>): ", "", text) or type(cause).__name__
