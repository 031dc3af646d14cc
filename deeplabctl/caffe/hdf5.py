"""Read ``.caffemodel.h5``: ``data/<layer>/<0|1|...>``, a dataset for each blob, as Caffe's Net::ToHDF5 writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from deeplabctl.caffe.net import CaffeLayer, CaffeNet
from deeplabctl.errors import WeightsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Compressed data may be larger than the file; weights, which hardly compress, never this much.
MAX_EXPANSION = 16

# What h5py raises for damaged files.
DAMAGED = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, MemoryError)


def is_hdf5(path: Path) -> bool:
    """Tell whether a file begins with HDF5's signature."""
    try:
        if not path.is_file():  # reading a pipe would take its bytes away
            return False
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def kind_of_hdf5(path: Path) -> Literal["net", "solver"] | None:
    """Return 'net' for a ``.caffemodel.h5``, 'solver' for a ``.solverstate.h5``; None for others, as Keras' are."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "iter" in file and "history" in file:
                return "solver"
            inside = isinstance(file.get("data", getlink=True), h5py.HardLink)
            found = inside and file["data"].visititems(lambda name, _: True if name.endswith("/0") else None)
    except DAMAGED:
        return None
    return "net" if found else None


def read_hdf5(path: Path) -> CaffeNet:
    """Read a net's weights; ``diff`` and links to other files are left out.

    Raises WeightsError for damaged files and for HDF5 files of other programs.
    """
    import h5py

    kind = kind_of_hdf5(path)
    if kind == "solver":
        raise WeightsError(f"weights {path}: this is a solver state; give the .caffemodel.h5 beside it")
    if kind is None:
        raise WeightsError(f"weights {path}: expected Caffe's HDF5 layout (data/<layer>/0), got another HDF5 file")
    found: dict[str, dict[str, Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            layer, _, index = name.rpartition("/")
            found.setdefault(layer, {})[index] = item
        else:
            found.setdefault(name, {})

    try:
        with h5py.File(path, "r") as file:
            file["data"].visititems(visit)  # hard links only: nothing outside the file
            claimed = sum(blob.nbytes for blobs in found.values() for blob in blobs.values())
            if claimed > MAX_EXPANSION * path.stat().st_size:
                raise WeightsError(f"weights {path}: the file is damaged: it claims {claimed} bytes of weights")
            layers = [CaffeLayer(name, "", tuple(_blobs(path, name, blobs))) for name, blobs in found.items()]
    except DAMAGED as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise WeightsError(f"weights {path}: the file is damaged ({lines[0]}); get it again") from None
    return CaffeNet(path, "", "HDF5", tuple(layers))


def _blobs(path: Path, layer: str, datasets: dict[str, Any]) -> list[npt.NDArray[Any]]:
    expected = [str(index) for index in range(len(datasets))]
    if set(datasets) != set(expected):
        raise WeightsError(f"weights {path}: layer {layer}: expected blobs {expected}, got {sorted(datasets)}")
    blobs = []
    for index in expected:
        dataset = datasets[index]
        if dataset.dtype.kind != "f" or dataset.external or dataset.is_virtual:
            raise WeightsError(
                f"weights {path}: layer {layer}, blob {index}: expected floats in the file itself, got {dataset.dtype}"
            )
        blobs.append(np.asarray(dataset[()], np.float64 if dataset.dtype.itemsize > 4 else np.float32))
    return blobs
