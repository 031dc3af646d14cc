"""Read the archives (``.tar.gz``) in which DeepLab's authors publish checkpoints and frozen graphs, as they are.

What has weights is unpacked into a folder that is removed after that; no name of the archive leads out of it.
"""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from deeplabctl.damage import MAX_EXPANSION
from deeplabctl.errors import WeightsError
from deeplabctl.network import Weights
from deeplabctl.weights.sources.frozen_graphs import FrozenGraph
from deeplabctl.weights.sources.tensorflow_checkpoints import TensorFlowCheckpoint
from deeplabctl.weights.weight_file import Beginning, WeightFile

GZIP = b"\x1f\x8b"
_HEADER, _MAGIC, _MAGIC_AT = 512, b"ustar", 257  # of a tar archive
_WANTED = re.compile(
    r"(?!\.)[\w.-]{1,200}\.(index|data-\d{5}-of-\d{5})|[\w.-]{0,200}frozen[\w.-]{0,200}\.pb"
)  # not macOS's ._NAME
_LARGEST = 2 << 30  # bytes of all entries; the largest published archive has 640 MB
_MOST_ENTRIES = 1000
_LARGEST_READ = 1 << 20  # bytes; longer are only claims of headers


class _Unpacked(gzip.GzipFile):
    """Unpack a gzip file, but neither much at once nor in all."""

    def read(self, size: int | None = -1) -> bytes:
        """Return some bytes; raises tarfile.ReadError for too many."""
        if size is None or not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; raises tarfile.ReadError for one beyond the largest archive."""
        if offset > _LARGEST:
            raise tarfile.ReadError(f"expected at most {_LARGEST >> 20} MiB")
        return super().seek(offset, whence)


class TensorFlowArchive(WeightFile):
    """Hold an archive with a checkpoint, which is preferred, or a frozen graph."""

    words = "TensorFlow archive (.tar.gz)"
    refused = "the archive is damaged or truncated"

    @classmethod
    def recognises(cls, start: Beginning) -> bool:
        """Tell whether a tar archive is packed in a gzip file."""
        if not start.head.startswith(GZIP):
            return False
        try:
            header = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(start.head, _HEADER)
        except zlib.error:
            return False
        return header[_MAGIC_AT:].startswith(_MAGIC)

    def _read_weights(self) -> Weights:
        with TemporaryDirectory(prefix="deeplabctl-") as folder:
            file = self._unpack(Path(folder))
            try:
                self._dilations = file.dilations
                weights = file.weights  # whose file stays mapped when the folder is removed
            except WeightsError as error:
                raise WeightsError(str(error).replace(folder, str(self.path))) from None
        self.words = f"{type(self).words}, {file.words} {file.path.name}"
        return weights

    @cached_property
    def dilations(self) -> Mapping[str, tuple[int, ...]]:
        """Return those of the frozen graph, if that was read."""
        self.weights  # noqa: B018 - reading them finds these
        return self._dilations

    def _unpack(self, folder: Path) -> WeightFile:
        """Write what may have weights into a folder, and return the file that is read."""
        names: list[str] = []
        total = 0
        largest = min(_LARGEST, 2 * MAX_EXPANSION * self.path.stat().st_size)  # with the rest of tar's blocks
        with (
            self.path.open("rb") as packed,
            _Unpacked(fileobj=packed) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r:") as archive,
        ):
            for entry in archive:
                names.append(entry.name)
                total += abs(entry.size)  # a header may claim another than that of the content
                self._check(entry, len(names), max(total, entry.offset_data + entry.size), largest)
                target = folder / PurePosixPath(entry.name).name
                content = archive.extractfile(entry) if _WANTED.fullmatch(target.name) else None
                if content is not None:
                    with target.open("xb") as file:
                        shutil.copyfileobj(content, file)
        if indexes := sorted(folder.glob("*.index")):
            return TensorFlowCheckpoint(max(indexes, key=_step).with_suffix(""))
        for graph in sorted(folder.glob("*.pb")):
            return FrozenGraph(graph)
        some = ", ".join(name[:80] for name in names[:4]) or "nothing"
        raise WeightsError(
            f"weights {self.path}: expected an archive with a TensorFlow checkpoint or a frozen graph (.pb), got one "
            f"with {some}; unpack it, and name the file with the weights"
        )

    def _check(self, entry: tarfile.TarInfo, count: int, total: int, largest: int) -> None:
        """Raise WeightsError for an entry that an archive of weights does not have."""
        wrong = ""
        if count > _MOST_ENTRIES:
            wrong = f"expected at most {_MOST_ENTRIES} entries, got more"
        elif entry.name.startswith("/") or ".." in re.split(r"[/\\]", entry.name):
            wrong = f"expected entries inside the archive, got {entry.name[:80]!r}, which points outside"
        elif not (entry.isreg() or entry.isdir()) or entry.issparse():
            wrong = f"expected files and folders, got {entry.name[:80]!r}, a link, a device or a sparse file"
        elif total > largest:
            wrong = f"expected at most {largest:,} bytes, got {entry.name[:80]!r} of {entry.size:,}"
        if wrong:
            raise WeightsError(f"weights {self.path}: {wrong}; this is not an archive that DeepLab's authors published")


def _step(index: Path) -> int:
    """Return the step in the name of a checkpoint; -1 without any."""
    match = re.search(r"-(\d+)\.index$", index.name)
    return int(match[1]) if match else -1
