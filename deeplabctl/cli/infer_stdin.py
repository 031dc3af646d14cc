"""Segment one picture from stdin: its mask goes to stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from deeplabctl.cli.console import Console

if TYPE_CHECKING:
    from deeplabctl.prediction.settings import SettingsRequest


def segment_stdin(request: SettingsRequest, weights: str | None, console: Console) -> None:
    """Read a picture of any format from stdin, and write its mask, a PNG, to stdout."""
    from deeplabctl.cli.prediction_options import load_segmenter
    from deeplabctl.data.images import decode_image, mask_bytes
    from deeplabctl.errors import DataError, OutputError
    from deeplabctl.prediction.settings import resolve
    from deeplabctl.reporting import Note
    from deeplabctl.weights.fitting import read_network
    from deeplabctl.weights.locating import find_weights

    with console.errors(), console.reporter() as report:
        if sys.stdout.isatty():
            raise OutputError("stdout is a terminal: expected a file or a pipe for the mask, a PNG; add > mask.png")
        if sys.stdin.isatty():
            raise DataError("stdin is a terminal: expected a picture from a file or a pipe; add < photo.jpg")
        image = decode_image(sys.stdin.buffer.read(), "stdin")
        path = find_weights(weights)
        network = read_network(path)
        report(Note(f"weights: {path}"))
        segmenter = load_segmenter(network, resolve(request, network.info), report)
        sys.stdout.buffer.write(mask_bytes(segmenter.label(image)))
        sys.stdout.buffer.flush()
