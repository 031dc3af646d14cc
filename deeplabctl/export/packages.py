"""Tell whether the packages of a format are installed."""

from __future__ import annotations

from importlib.util import find_spec

from deeplabctl.errors import OutputError
from deeplabctl.weights.export_facts import WORDS, ExportFormat

_PACKAGES: dict[ExportFormat, tuple[str, ...]] = {
    "savedmodel": (), "onnx": ("onnx", "onnxruntime"), "tflite": ("ai_edge_litert",),
}  # fmt: skip


def check_packages(format_: ExportFormat) -> None:
    """Raise OutputError, which names the extra, where a package that writes or runs a format is missing."""
    missing = [name for name in _PACKAGES[format_] if find_spec(name) is None]
    if missing:
        raise OutputError(
            f"cannot write an {WORDS[format_]}: expected the package {' and '.join(missing)}, which is not installed; "
            f"install it: pip install 'deeplabctl[{format_}]'"
        )
