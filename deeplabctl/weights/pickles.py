"""Read arrays from a pickle without running any code that it names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabctl.errors import WeightsError

# The constructors that pickled arrays need, under the module names of numpy 1 and 2 and of Python 2 and 3. They only
# put values together; every other name is refused.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return one of the constructors of arrays; refuse every other name."""
        if module in _MODULES and name == "_reconstruct":
            return _empty_array
        if module in _MODULES and name == "scalar":
            return _scalar
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _from_buffer
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return _dtype
        if (module, name) == ("_codecs", "encode"):
            return _encode
        raise pickle.UnpicklingError(f"it asks to call {module}.{name}, which a file of arrays does not need")


def _empty_array(kind: type, shape: tuple[int, ...], code: object) -> npt.NDArray[Any]:
    return np.ndarray((0,), np.uint8)  # its state, which follows, brings shape, type and data


def _from_buffer(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> npt.NDArray[Any]:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _dtype(text: str, align: bool = False, copy: bool = False) -> np.dtype[Any]:
    dtype = np.dtype(text, bool(align), True)  # a copy: its byte order may be set afterwards
    if dtype.kind not in "fiub":
        raise pickle.UnpicklingError(f"it holds an array of {text!r}, expected numbers")
    return dtype


def _scalar(dtype: np.dtype[Any], data: bytes | str) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1")


def read_pickled_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a pickled dictionary of names and arrays, of Python 2 or 3.

    Raises WeightsError for anything else; nothing that the pickle names is called.
    """
    try:
        with path.open("rb") as file:
            loaded = _Unpickler(file, encoding="latin1").load()
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error) or type(error).__name__
        raise WeightsError(f"weights {path}: the pickle is refused: {reason}") from None
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, np.ndarray) for name, value in loaded.items()
    ):
        raise WeightsError(
            f"weights {path}: expected a pickled dictionary of names and arrays, got {type(loaded).__name__}"
        )
    return loaded
