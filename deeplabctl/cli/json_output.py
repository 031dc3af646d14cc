"""Keep stdout for exactly one JSON document where --json asks for it, also of a command that fails."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

import typer


@dataclass
class _Output:
    """Hold what is known of the command's output."""

    stream: TextIO | None = None  # stdout, while what others print there goes to stderr
    is_printed: bool = False
    error: str = ""  # the last one on stderr


_output = _Output()


def print_document(document: dict[str, Any]) -> None:
    """Print the command's document; numbers that JSON lacks, such as NaN, are null."""
    _output.is_printed = True
    typer.echo(json.dumps(_finite(document), indent=1, allow_nan=False), file=_output.stream or sys.stdout)


def leave_document_to_child() -> None:
    """Note that a process which writes to the same stdout prints the document."""
    _output.is_printed = True


def note_error(message: str) -> None:
    """Keep an error that is printed, for the document of a command that ends with it."""
    _output.error = message


@contextmanager
def only_documents() -> Iterator[None]:
    """Send to stderr what anything but `print_document` prints on stdout during the block."""
    _output.stream = sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _output.stream = None


@contextmanager
def error_document(*, wanted: bool) -> Iterator[None]:
    """Print, if ``wanted``, {"error": {"message": ..., "exit_code": ...}} for a block that fails without a document."""
    _output.is_printed, _output.error = False, ""
    try:
        try:
            yield
        except KeyboardInterrupt:  # outside of a command, which says what is kept
            raise SystemExit(130) from None
    except BrokenPipeError:
        raise
    except BaseException as error:
        code = (error.code or 0) if isinstance(error, SystemExit) else 1
        if wanted and code and not _output.is_printed:
            message = f"{type(error).__name__}: {error}"
            if isinstance(error, SystemExit):
                message = _output.error or ("interrupted" if code == 130 else f"ended with exit code {code}")
            print_document({"error": {"message": message, "exit_code": code}})
        raise


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
