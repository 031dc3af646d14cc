"""Open image files: Pillow gets what says something of the pixels, and of all metadata only the turn of the image.

Text, profiles and EXIF of any size, of odd types or with wrong checksums are no reason to refuse an image, and cost
nothing. What the pixels need must be whole.
"""

from __future__ import annotations

import bisect
import contextlib
import errno
import io
import itertools
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import PIL.Image
from PIL import UnidentifiedImageError

from deeplabctl.data.findings import TOO_LARGE, Finding, FindingError
from deeplabctl.errors import DataError

SAVED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")  # of images that are written
IMAGE_SUFFIXES = (*SAVED_SUFFIXES, ".avif", ".heic", ".heif")
# Images that are not taken from folders: those that can be read if they are named, and others.
NAMED_SUFFIXES = (
    ".gif", ".jp2", ".j2k", ".jfif", ".jpe", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dib", ".ico", ".pcx", ".sgi",
    ".dds", ".apng",
)  # fmt: skip
FOREIGN_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".jxl", ".psd", ".svg")
# What Pillow raises for damaged content; RuntimeError by its reader of AVIF.
DAMAGE = (
    OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError, RuntimeError, AttributeError, AssertionError,
    ArithmeticError, struct.error, zlib.error,
)  # fmt: skip
# Pillow's remarks on unusual but readable files, as `warnings.filters` has them.
_REMARKS = ("ignore", None, Warning, re.compile(r"PIL\.|deeplabctl\.data\.image"), 0)
_TURN = "deeplabctl.orientation"  # ours among what Pillow's ``info`` of an image has, such as texts of PNGs
_TAG = 0x0112  # of the orientation, in EXIF and TIFF
_LARGEST, _MOST = 1 << 24, 10_000  # bytes of metadata that are looked at; pieces of metadata
_PNG, _JPEG, _RAW_EXIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"Raw profile type exif\0"
_INSTALL = "pip install 'deeplabctl[heif]'"
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


@contextmanager
def open_image(
    path: Path, content: io.BytesIO | None = None, formats: tuple[str, ...] | None = None
) -> Iterator[PIL.Image.Image]:
    """Open an image file with Pillow, or its ``content``; of any format, or of those that are named as Pillow does.

    Raises DataError in one line for damaged content, for more pixels than Pillow's limit against files that would fill
    the memory (``PIL.Image.MAX_IMAGE_PIXELS``, twice), for a file that the system refuses to read, and for a pipe.
    """
    head = b""
    try:
        # Not catch_warnings, which threads leave behind for each other.
        if _REMARKS not in warnings.filters:  # adding it again makes Python forget which warnings it has shown
            warnings.filterwarnings("ignore", module=_REMARKS[3].pattern)
        with ExitStack() as stack:
            file: BinaryIO = content or stack.enter_context(open_regular(path))
            head = file.read(12)
            excerpt, turn = _without_metadata(file, head)
            if formats is None and _is_heic(head):
                _learn_heic()
            with PIL.Image.open(excerpt, formats=formats) as opened:
                opened.info[_TURN] = turn or _turn_of(opened)
                yield opened
    except UnidentifiedImageError:
        known = f"JPEG, PNG, WebP, BMP, TIFF{', AVIF' if formats is None else ''}"
        raise _refused(path, f"an image of a known format ({known})", *_described(head, formats)) from None
    except PIL.Image.DecompressionBombError as error:
        count = re.search(r"(\d+) pixels", str(error))
        most, got = f"{2 * (PIL.Image.MAX_IMAGE_PIXELS or 0):,}", f"{int(count[1]):,}" if count else "more"
        fix = "scale it down, or cut it into smaller ones"
        raise _refused(path, f"at most {most} pixels", got, fix, kind=TOO_LARGE) from None
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # of the system, not of Pillow
            raise unreadable(path, error) from None
        raise _refused(path, "a complete image", damaged(error)) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error of a file that the system refuses to read."""
    got = repr(error.strerror)
    if isinstance(error, FileNotFoundError):
        if not path.is_symlink():
            return DataError(f"cannot read {path}: there is no such file")
        got = f"a link to {path.readlink()}, which does not exist"
    if isinstance(error, PermissionError):
        return _refused(path, "a file that this user may read", got, "change its permissions, or leave it out")
    return _refused(path, "a file", got)


def _refused(
    path: Path, expected: str, got: str, fix: str = "replace the file, or leave it out", kind: str = "unreadable"
) -> FindingError:
    return FindingError(Finding(kind, path, expected, got, fix, failed="cannot read"))


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it; raises DataError as `check_regular` does, and OSError."""
    check_regular(path)
    return path.open("rb")


def check_regular(path: Path) -> None:
    """Raise DataError for a pipe or a device, which nobody may ever write to, or end."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise _refused(path, "a file", kind, "save it as a file (deeplabctl infer - reads one image from stdin)")


def orientation(image: PIL.Image.Image) -> int:
    """Return how EXIF turns an image, 1 to 8; 1 for none, or one that cannot be read. Pillow turns TIFFs itself."""
    if _TURN in image.info:
        return int(image.info[_TURN])
    try:
        turn = image.getexif().get(_TAG, 1)
    except DAMAGE:
        return 1
    return int(turn) if turn in range(1, 9) else 1


def damaged(error: Exception) -> str:
    """Describe what Pillow has found instead of a whole image."""
    return f"one that is damaged or truncated ({error})"


def _described(head: bytes, formats: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return what a file is that Pillow does not know, by its first bytes, and, for some, what to do about it."""
    is_avif = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")
    if is_avif or _is_heic(head):
        got, fix = "AVIF" if is_avif else "HEIC", "convert it to JPEG"
        if formats is not None or (not is_avif and "HEIF" in PIL.Image.OPEN):  # what is installed is no reason
            return got, fix
        return f"{got}, which this Pillow cannot read" if is_avif else got, f"{_INSTALL}, or {fix}"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "a TIFF of other samples", "save it as RGB or grey of 8 or 16 bits, without further bands"
    return ("other content" if head else "an empty file",)


def _is_heic(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC


def _learn_heic() -> None:
    """Let Pillow read HEIC, if pillow-heif is installed; it turns images itself."""
    if "HEIF" not in PIL.Image.OPEN:
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()


def _turn_of(image: PIL.Image.Image) -> int:
    """Return the orientation of an image of another format than PNG and JPEG."""
    turn = getattr(image, "tag_v2", {}).get(_TAG, 1)
    xmp = image.info.get("xmp", b"")
    found = _turn_in(image.info.get("exif") or b"", xmp if isinstance(xmp, bytes) else b"") or turn
    return found if found in range(1, 9) else 1


def _turn_in(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation that the first directory of EXIF has, or else XMP; 0 for none."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (directory,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _TAG:
                (turn,) = struct.unpack_from(order + {1: "B", 3: "H", 4: "I"}[kind], exif, entry + 8)
                return turn if turn in range(1, 9) else 0
    except (struct.error, KeyError):
        pass
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    return int(found[1]) if found else 0


class _Excerpt(io.RawIOBase):
    """Give parts of a file, each its begin and its length, as if they were a whole one."""

    def __init__(self, file: BinaryIO, parts: list[tuple[int, int]]) -> None:
        super().__init__()
        self._file, self._parts, self._place = file, parts, 0
        self._begins = list(itertools.accumulate((length for _, length in parts), initial=0))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._begins[-1])[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        index = bisect.bisect_right(self._begins, self._place) - 1
        if index >= len(self._parts):
            return 0
        (begin, length), inside = self._parts[index], self._place - self._begins[index]
        self._file.seek(begin + inside)
        content = self._file.read(min(len(buffer), length - inside))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


# A piece of a file: where it begins and ends, and the orientation in one that is left out; None for one that is kept.
Piece = tuple[int, int, int | None]


def _without_metadata(file: BinaryIO, head: bytes) -> tuple[BinaryIO, int]:
    """Return a PNG or JPEG without its metadata, and the first orientation in them; another file as it is, and 0."""
    end = file.seek(0, os.SEEK_END)
    walk = _png_pieces if head.startswith(_PNG) else _jpeg_pieces if head.startswith(_JPEG) else None
    if walk is None:
        file.seek(0)
        return file, 0
    parts: list[tuple[int, int]] = []
    turn = dropped = 0
    for begin, after, found in walk(file, end):
        if found is None:
            begin = parts.pop()[0] if parts and sum(parts[-1]) == begin else begin
            parts.append((begin, min(after, end) - begin))
            continue
        turn, dropped = turn or found, dropped + 1
        if dropped > _MOST:  # so many are there to cost time
            raise ValueError(f"more than {_MOST:,} pieces of metadata")
    return io.BufferedReader(_Excerpt(file, parts), 1 << 16), turn


def _png_pieces(file: BinaryIO, end: int) -> Iterator[Piece]:
    """Yield the chunks of a PNG; those for its pixels are kept.

    An ancillary chunk with a wrong checksum counts as not there, as in libpng.
    """
    place, kind = len(_PNG), b""
    yield 0, place, None
    while place < end and kind != b"IEND":
        file.seek(place)
        header = file.read(8)
        length, kind = struct.unpack(">I4s", header) if len(header) == 8 else (end, b"IDAT")  # cut off: Pillow says so
        after = place + 12 + length
        turn: int | None = 0
        if not kind[:1].islower():
            if length > end:  # for which Pillow would make room
                raise ValueError("a chunk that is longer than the file")
            if kind == b"IDAT" and after <= end:
                _check_sum(file, length)
            turn = None
        elif kind in (b"tRNS", b"acTL", b"eXIf", b"iTXt", b"tEXt", b"zTXt") and after <= end:
            data = file.read(min(length, _LARGEST))
            if length > _LARGEST or struct.pack(">I", zlib.crc32(kind + data)) == file.read(4):
                is_kept = kind == b"tRNS" or (kind == b"acTL" and int.from_bytes(data[:4]) > 1)  # several frames
                turn = None if is_kept else _turn_in_chunk(kind, data)
        yield place, after, turn
        place = after


def _check_sum(file: BinaryIO, length: int) -> None:
    """Raise ValueError for pixels with a wrong checksum, which Pillow does not read; libpng refuses them."""
    found = zlib.crc32(b"IDAT")
    for begin in range(0, length, 1 << 20):
        found = zlib.crc32(file.read(min(1 << 20, length - begin)), found)
    if struct.pack(">I", found) != file.read(4):
        raise ValueError("wrong checksum of its pixels")


def _turn_in_chunk(kind: bytes, data: bytes) -> int:
    """Return the orientation in a chunk of a PNG: of EXIF, of EXIF as ImageMagick wrote it before, or of XMP."""
    if kind == b"eXIf":
        return _turn_in(data)
    if data.startswith(_RAW_EXIF):
        text = data[len(_RAW_EXIF) :]
        try:
            text = zlib.decompressobj().decompress(text[1:], _LARGEST) if kind == b"zTXt" else text
            return _turn_in(bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii")))
        except (zlib.error, ValueError):
            return 0
    return _turn_in(b"", data) if data.startswith(b"XML:com.adobe.xmp\0") else 0


def _jpeg_pieces(file: BinaryIO, end: int) -> Iterator[Piece]:
    """Yield the segments of a JPEG; those of applications are left out, except JFIF's and Adobe's."""
    place = 2
    yield 0, place, None
    while place < end:
        file.seek(place)
        header = file.read(4)
        marker, length = struct.unpack(">HH", header) if len(header) == 4 else (0, 0)
        if marker < 0xFFC0 or marker in (0xFFDA, 0xFFFF) or 0xFFD0 <= marker <= 0xFFD9 or length < 2:
            yield place, end, None  # the pixels, or what Pillow knows how to skip or to refuse
            return
        after = place + 2 + length
        is_kept = not 0xFFE1 <= marker <= 0xFFEF or marker == 0xFFEE or after > end
        turn = 0
        if marker == 0xFFE1:
            data = file.read(length - 2)
            exif, xmp = (data.startswith(name) for name in (b"Exif\0\0", b"http://ns.adobe.com/xap/"))
            turn = _turn_in(data) if exif else _turn_in(b"", data) if xmp else 0
        yield place, after, None if is_kept else turn
        place = after
