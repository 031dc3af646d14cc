"""Weights in, files for other runtimes out: SavedModel, ONNX and TFLite, each run and compared before it is kept."""

from deeplabctl.export.exporter import ExportRequest, export

__all__ = ["ExportRequest", "export"]
