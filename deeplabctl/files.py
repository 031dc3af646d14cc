"""Write files whole or not at all: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deeplabctl.errors import OutputError


def check_new_file(path: Path, *, overwrite: bool, suffixes: Sequence[str] = ()) -> None:
    """Raise OutputError for a file that must not be written: it exists, is a folder, or has another suffix."""
    if suffixes and path.suffix.lower() not in suffixes:
        endings = ", ".join(suffixes)
        raise OutputError(f"{path}: expected a name that ends in {endings}; choose another `out`")
    if path.is_dir():
        raise OutputError(f"{path}: expected the name of a file to write, got a folder; choose another `out`")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists; use `overwrite` to replace it, or choose another `out`")


def check_folder(path: Path) -> None:
    """Raise OutputError for a folder of results that is a file."""
    if os.path.lexists(path) and not path.is_dir():
        raise OutputError(f"{path}: expected a folder, got a file; choose another `out`")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    Missing folders are made. Raises OutputError where the system refuses: a full disk, no permission.
    """
    # The target's suffix is kept: writers choose their format by it.
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; nothing was left half-written") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, "utf-8")
