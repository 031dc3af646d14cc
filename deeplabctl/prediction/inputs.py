"""Find the images and videos that a user names: files, folders, patterns."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from deeplabctl.data.image_files import FOREIGN_SUFFIXES, IMAGE_SUFFIXES, NAMED_SUFFIXES, check_regular
from deeplabctl.errors import DataError
from deeplabctl.files import file_names, suffix_counts
from deeplabctl.reporting import Note, Reporter, counted, silent

VIDEO_SUFFIXES = (
    ".mp4", ".mov", ".m4v", ".3gp", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".wmv",
    ".flv", ".ogv",
)  # fmt: skip
_IMAGE_BRANDS = (
    b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"jxl ", b"crx ",
)  # fmt: skip
_BEGINNINGS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\0\0\1\xba", b"\0\0\1\xb3",  # MPEG: a program stream, a stream of video
    b"0&\xb2u\x8ef\xcf\x11",  # WMV
    b"FLV\1", b"OggS",
)  # fmt: skip


def find_images(names: Sequence[str], report: Reporter = silent) -> list[Path]:
    """Return the files that the names stand for, each once; raises DataError for a name without any.

    A folder stands for the images in it (not in the folders below; ``DIR/**/*.jpg`` finds those, ``DIR/*.mp4`` the
    videos). Videos, and images of other formats, are reported. Raises DataError for a pipe, too.
    """
    found: dict[Path, Path] = {}  # by their absolute paths
    for name in names:
        if not name:  # of a variable of the shell that is not set; as a path it would be the folder here
            raise DataError("expected the name of an image or a folder, got an empty one; for this folder give .")
        path = Path(name)
        if os.path.isdir(path):  # noqa: PTH112 - which, unlike Path's, raises for no name
            try:
                entries = [path / entry for entry in file_names(path)]
            except OSError as error:
                raise DataError(f"cannot read the folder {path}: {error.strerror}") from None
            images = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
            passed_over = _passed_over(path, entries)
            if not images:
                fix = "choose the folder of the images (folders below are not searched)"
                got = passed_over or f"{suffix_counts(entries) or 'no file'}; {fix}"
                raise DataError(f"{path}: expected images in this folder ({', '.join(IMAGE_SUFFIXES)}), got {got}")
            if passed_over:
                report(Note(f"{path}: skipped {passed_over}", warning=True))
        elif os.path.exists(path):  # noqa: PTH110
            check_regular(path)
            images = [path]
        else:
            images = sorted(Path(match) for match in glob.glob(name, recursive=True) if os.path.isfile(match))  # noqa: PTH113, PTH207
            if not images:
                wrong = "there is no such file or folder, and as a pattern it matches nothing"
                if "://" in name:
                    wrong = "expected a file or a folder, got an address; download it, and name the file"
                raise DataError(f"{name}: {wrong}")
        for image in images:
            found.setdefault(image.absolute(), image)
    return [*found.values()]


def _passed_over(folder: Path, files: Sequence[Path]) -> str:
    """Count the images and videos of a folder that are not read from it, and say what would help; "" without any."""
    kinds = [
        (FOREIGN_SUFFIXES, "convert them to JPEG or PNG"),
        *(((suffix,), "") for suffix in (*NAMED_SUFFIXES, *VIDEO_SUFFIXES)),
    ]
    found = []
    for suffixes, fix in kinds:
        if those := [file.suffix for file in files if file.suffix.lower() in suffixes]:
            fix = fix or f"name them: {shlex.quote(f'{glob.escape(str(folder))}/*{those[0]}')}"
            found.append(f"{counted(len(those), f'{those[0][1:].upper()} file')} ({fix})")
    return ", ".join(found)


def is_video(path: Path) -> bool:
    """Tell whether the content of a file is a video, of the kinds of `VIDEO_SUFFIXES`; no file's name tells."""
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:12] not in _IMAGE_BRANDS
    packets = head[::188][:5], head[4::192][:5]  # of MPEG's transport streams, .ts and .m2ts
    return (
        head[4:8] in (b"moov", b"mdat", b"wide")
        or head[:4] + head[8:12] == b"RIFFAVI "
        or head.startswith(_BEGINNINGS)
        or b"GGGGG" in packets
    )
