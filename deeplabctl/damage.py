"""Refuse files that are damaged, or claim more than they have, in one line."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplabctl.errors import WeightsError

# What zipfile, tarfile, json, h5py, numpy and our own readers raise for files that are damaged, cut off or encrypted.
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, OSError, EOFError, ValueError, LookupError, TypeError,
    AttributeError, RuntimeError, ArithmeticError, AssertionError, MemoryError,
)  # fmt: skip

# Compressed data, or 8-bit numbers as floats, may be larger than the file; weights hardly compress, and never so much.
MAX_EXPANSION = 8


@contextmanager
def refusing(path: Path, what: str = "the file is damaged") -> Iterator[None]:
    """Raise what reading a damaged weight file raises as a WeightsError that says ``what`` it is, and the reason."""
    try:
        yield
    except DAMAGED as error:
        if isinstance(error, OSError) and error.strerror:
            raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None
        text = str(error) if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {error}"
        hint = "; download or copy it again" if "damaged" in what else ""
        raise WeightsError(f"weights {path}: {what}: {' '.join(text.split())[:300]}{hint}") from None


def check_claim(path: Path, claimed: int) -> None:
    """Raise WeightsError for a file whose arrays claim far more bytes than it has, as if they shared them."""
    if claimed > MAX_EXPANSION * path.stat().st_size:
        raise WeightsError(f"weights {path}: the file is damaged: it claims {claimed} bytes of weights")
