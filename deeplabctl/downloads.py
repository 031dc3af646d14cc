"""Download files from the web: whole or not at all, resumed after an interruption, from the first address that works.

A file grows as NAME.part and gets its name after its checks. Of two processes the second waits for the first.
"""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from deeplabctl.errors import DeepLabError, DownloadError, OutputError
from deeplabctl.files import checksum, lock
from deeplabctl.reporting import Note, Reporter, task

_MEGABYTE = 1 << 20
LARGEST = 4 << 30  # bytes of a file of unknown size
_TIMEOUT = 30.0  # seconds without data
ATTEMPTS, PAUSE = 5, 1.0  # with an address whose connection is cut; seconds between them
_KINDS = {32: "md5", 64: "sha256", 96: "sha384"}  # of checksums, by their length


@dataclass(frozen=True)
class WebFile:
    """Describe a file on the web: its addresses, the official one first, its checksum and size where they are known."""

    name: str
    addresses: tuple[str, ...]
    checksum: str | None = None  # md5, sha256 or sha384
    size: int | None = None  # bytes


def download(
    file: WebFile,
    target: Path,
    report: Reporter,
    *,
    check: Callable[[Path], object] = lambda path: None,
) -> None:
    """Download a file to ``target`` unless it exists; an interrupted download is resumed.

    What an earlier address has sent is kept until the checksum of the whole is right, or no address goes on with it.
    Without a checksum, only what the same address still has unchanged is resumed. ``check`` raises DeepLabError for
    other content; a connection that is cut is tried again. Raises DownloadError if no address has the file, and
    OutputError if it cannot be written.
    """
    with _locked_part(target, report) as opened:
        if opened is None:
            report(Note(f"{target} already exists: not downloaded"))
            return
        part, reasons, complete = _Part(target, opened, file), [], False
        for address in file.addresses:
            report(Note(f"downloading {address}"))
            begun = part.size
            try:
                part.fetch_repeatedly(address, report)
                complete = True
                part.check(check, report)
                part.finish()
                return
            except DownloadError as error:  # other content
                opened.truncate(begun if file.checksum else 0)  # the next address may go on with it
                reasons.append(f"{urlsplit(address).hostname}: {error}")
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: redirected to no address
                reasons.append(f"{urlsplit(address).hostname}: {_reason(error)}")
        if complete or part.size == 0:  # complete and still wrong: what was there at the beginning is, or all addresses
            part.remove()
    expected = f" ({_KINDS[len(file.checksum)]} {file.checksum})" if file.checksum else ""
    raise DownloadError(
        f"cannot download {file.name} ({'; '.join(reasons)}); run it again to resume, or download {file.addresses[0]}"
        f"{expected} by other means, to {target}"
    )


class _Part:
    """Hold the growing file of a download, and beside it, for a file without checksum, where it comes from."""

    def __init__(self, target: Path, opened: BinaryIO, file: WebFile) -> None:
        self._target, self._opened, self._file = target, opened, file
        self._path = _part_of(target)
        self._origin = target.with_name(f"{target.name}.part.from")  # address, and ETag or date

    @property
    def size(self) -> int:
        """Return how many bytes there are."""
        return os.fstat(self._opened.fileno()).st_size

    def fetch_repeatedly(self, address: str, report: Reporter) -> None:
        """Download what is missing; after a cut that left more than there was, go on from there."""
        for left in reversed(range(ATTEMPTS)):
            begun = self.size
            try:
                self._fetch(address, report)
                return
            except (ConnectionError, TimeoutError, http.client.HTTPException):
                if not left or self.size <= begun:
                    raise
                time.sleep(PAUSE)

    def _fetch(self, address: str, report: Reporter) -> None:
        """Download what is missing; a server without ranges, or with a new file, sends all of it again."""
        headers, begun = self._range(address)
        try:
            answer = _open(urllib.request.Request(address, headers=headers))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and begun:  # nothing is missing
                return
            raise
        with answer:
            if answer.status != 206:
                begun = 0
            elif not (answer.headers.get("Content-Range") or f"bytes {begun}-").startswith(f"bytes {begun}-"):
                raise DownloadError("other bytes than those requested")
            length = answer.length
            total = self._expected(begun, length)
            if not begun:
                self._begin(address, answer.headers)
            with task(
                report, f"downloading {self._file.name}", total // _MEGABYTE, "MB", begun // _MEGABYTE
            ) as advance:
                done = self._save(answer.read, begun, total, advance)
            if done < total and (length is not None or self._file.size):
                raise ConnectionError(f"the connection ended after {done:,} of {total:,} bytes")
            self._opened.truncate(done)

    def _expected(self, begun: int, length: int | None) -> int:
        """Return the size of the whole file by what is still to come; a limit where nothing tells it."""
        size = self._file.size
        total = (size or LARGEST) if length is None else begun + length
        if total > LARGEST or (size is not None and total != size):
            expected = f"at most {LARGEST:,}" if size is None else f"{size:,}"
            raise DownloadError(f"a different file, of {total:,} bytes, expected {expected}")
        return total

    def _range(self, address: str) -> tuple[dict[str, str], int]:
        """Return the headers that ask for what is missing, and how much is there."""
        begun = self.size
        if not begun or self._file.checksum:
            return ({"Range": f"bytes={begun}-"} if begun else {}), begun
        with suppress(OSError, UnicodeDecodeError):
            origin, _, validator = self._origin.read_text("utf-8").partition("\n")
            if origin == address and validator:
                return {"Range": f"bytes={begun}-", "If-Range": validator}, begun
        return {}, 0

    def _begin(self, address: str, headers: http.client.HTTPMessage) -> None:
        """Note where a file without checksum comes from; what another address sent of it does not count."""
        if self._file.checksum:
            return
        self._opened.truncate(0)
        etag = headers.get("ETag", "")
        validator = headers.get("Last-Modified", "") if etag.startswith("W/") or not etag else etag
        self._origin.write_text(f"{address}\n{validator}", "utf-8")

    def _save(self, read: Callable[[int], bytes], begun: int, total: int, advance: Callable[[int], None]) -> int:
        """Write what is read behind the ``begun`` bytes of the part, over what is there; returns where that ends."""
        done = begun
        self._opened.seek(begun)
        while block := read(_MEGABYTE):
            if done + len(block) > total:
                raise DownloadError(f"a different file, of more than {total:,} bytes")
            try:
                self._opened.write(block)
                self._opened.flush()
            except OSError as error:
                raise OutputError(f"cannot write {self._path}: {error.strerror}; run it again to resume") from None
            advance((done + len(block)) // _MEGABYTE - done // _MEGABYTE)
            done += len(block)
        return done

    def check(self, check: Callable[[Path], object], report: Reporter) -> None:
        """Raise DownloadError for content that is not the file's."""
        if expected := self._file.checksum:
            kind = _KINDS[len(expected)]
            if (found := checksum(self._path, kind, report)) != expected:
                raise DownloadError(f"a different file, with {kind} {found}")
        try:
            check(self._path)
        except DeepLabError as error:
            raise DownloadError(str(error)) from None

    def finish(self) -> None:
        """Give the part its name."""
        os.fsync(self._opened.fileno())
        self._path.replace(self._target)
        self._origin.unlink(missing_ok=True)

    def remove(self) -> None:
        """Start again the next time."""
        self._path.unlink(missing_ok=True)
        self._origin.unlink(missing_ok=True)


@contextmanager
def _locked_part(target: Path, report: Reporter) -> Iterator[BinaryIO | None]:
    """Open and lock the part of a file; None if the file is there, at the beginning or after another process.

    Where the file system has no locks, nothing is locked. Raises OutputError if it cannot be written.
    """
    path = _part_of(target)
    while not target.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            opened = path.open("r+b")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from None
        with opened:
            with suppress(OSError):
                if not lock(opened.fileno()):
                    report(Note(f"waiting for another process to download {target.name}"))
                    lock(opened.fileno(), wait=True)
            if _is_at(path, opened):  # and not renamed or removed by the process that had the lock
                yield opened
                return
    yield None


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Send a request by HTTP or HTTPS, wherever it is redirected to: no local file, and no FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    answer: http.client.HTTPResponse = opener.open(request, timeout=_TIMEOUT)
    return answer


def _reason(error: Exception) -> str:
    """Return why a server did not answer, in a few words."""
    if isinstance(error, urllib.error.HTTPError):
        return f"{error.code} {http.client.responses.get(error.code, '')}".strip()
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason)
