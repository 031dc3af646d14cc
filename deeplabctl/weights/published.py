"""Find weights that others have published by their names, and fetch their files into the user's cache."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deeplabctl.classes import VOC_CLASSES
from deeplabctl.errors import OutputError, WeightsError
from deeplabctl.files import checksum, user_cache
from deeplabctl.reporting import Note, Reporter

_TABLE = Path(__file__).with_suffix(".toml")  # which says what each entry is


@dataclass(frozen=True)
class PublishedWeights:
    """Hold an entry of the table; None for what is not known."""

    name: str
    network: str
    classes: str  # the name of a list, see `class_names`
    file: str
    addresses: list[str]
    source: str
    licence: str
    bytes: int | None = None
    megabytes: float | None = None  # rounded
    checksum: str | None = None
    max_side: int = 0  # pixels of the longer side of the images that it was trained on; 0: any
    miou: float | None = None  # percent
    on: str | None = None  # what that was measured on, and how

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the outputs."""
        return VOC_CLASSES if self.classes == "voc" else tuple(_table()["classes"][self.classes])

    @property
    def path(self) -> Path:
        """Return where the file is, or will be; raises OutputError for a user without a home."""
        folder = user_cache()
        if folder is None:
            raise OutputError(
                f"weights {self.name}: expected a home folder to keep {self.file} in, got none; set $HOME or "
                "$XDG_CACHE_HOME, or download the file yourself and name it"
            )
        return folder / "weights" / self.file

    @property
    def is_here(self) -> bool:
        """Tell whether the file is in the cache."""
        return user_cache() is not None and self.path.exists()

    @property
    def size(self) -> str:
        """Return the size in words."""
        megabytes = self.megabytes if self.bytes is None else self.bytes / 1e6
        return "unknown" if megabytes is None else f"{megabytes:.1f} MB"

    def fetch(self, report: Reporter, check: Callable[[Path], object], other: Path | None = None) -> Path:
        """Return the file, which is downloaded if it is not in the cache; a file put there by hand is checked.

        ``check`` raises DeepLabError for a file that holds no weights. An ``other`` place of the file counts where the
        cache has none. Raises WeightsError for another file in the cache, DownloadError if no address has it, and
        OutputError if the cache cannot be written.
        """
        path, addresses = self.path, _mirror() or self.addresses
        if other is not None and not path.exists() and other.is_file():
            path = other
        if not path.exists():
            from deeplabctl.downloads import WebFile, download  # http takes 0.03 s to load

            report(Note(f"fetching the weights {self.name} (size: {self.size}) into {path.parent}"))
            web = WebFile(
                self.file, tuple(f"{each.rstrip('/')}/{self.file}" for each in addresses), self.checksum, self.bytes
            )
            try:
                download(web, path, report, check=check)
            except OutputError as error:
                raise OutputError(
                    f"{error} (set $XDG_CACHE_HOME, or download {web.addresses[0]} yourself and name the file)"
                ) from None
        try:
            self._verify(path, report, check)
        except OSError as error:
            raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None
        return path

    def _verify(self, path: Path, report: Reporter, check: Callable[[Path], object]) -> None:
        """Raise WeightsError for a file that is not the published one, or, without a checksum, not the first one."""
        size, sums = path.stat().st_size, path.with_name(f"{path.name}.sha256")
        kept = sums.read_text("utf-8", "replace").split() if sums.exists() else []
        expected = self.checksum or next(iter(kept), None)
        kind = {32: "md5", 96: "sha384"}.get(len(expected or ""), "sha256")
        if self.bytes not in (None, size):
            raise _other_file(path, f"{self.bytes:,} bytes", f"{size:,}", sums)
        if expected is None:
            check(path)
            with suppress(OSError):  # of a cache that cannot be written
                sums.write_text(f"{checksum(path, kind, report)}  {path.name}\n", "utf-8")
        elif (found := checksum(path, kind, report)) != expected:
            raise _other_file(path, f"{kind} {expected}", found, sums)


@cache
def published() -> Mapping[str, PublishedWeights]:
    """Return all weights of the table, by name."""
    return _entries("weights")


@cache
def imagenet() -> Mapping[str, PublishedWeights]:
    """Return the weights of ImageNet that trainings start from, by the name of the network in keras.applications."""
    return _entries("imagenet")


def _entries(section: str) -> Mapping[str, PublishedWeights]:
    table, found = _table(), {}
    for name, facts in table[section].items():
        joined = {**table["hosts"][facts["host"]], **facts}
        found[name] = PublishedWeights(name, **{key: value for key, value in joined.items() if key != "host"})
    return found


def published_as(file: str) -> PublishedWeights | None:
    """Return the weights that are published in a file of this name; None for any other."""
    return next((one for one in published().values() if one.file == file), None)


def guess_name(name: str) -> str:
    """Return the published name that was meant, as the end of a message."""
    close = difflib.get_close_matches(name, published(), 1)
    return f"; did you mean the published weights {close[0]}?" if close else ""


def _mirror() -> list[str]:
    """Return the address that a user has in place of all others, if any; raises WeightsError for one not on the web."""
    address = os.environ.get("DEEPLABCTL_WEIGHTS_URL")
    if address and not re.fullmatch(r"https?://[\w.-]+(:\d+)?(/[!-~]*)?", address, re.ASCII):
        raise WeightsError(f"$DEEPLABCTL_WEIGHTS_URL: expected an address http://HOST/FOLDER, got {address!r}")
    return [address] if address else []


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(_TABLE.read_text("utf-8"))


def _other_file(path: Path, expected: str, found: str, sums: Path) -> WeightsError:
    both = f" and {sums.name} beside it" if sums.exists() else ""
    return WeightsError(
        f"weights {path}: expected {expected}, got {found}; remove the file{both} to have it fetched again"
    )
