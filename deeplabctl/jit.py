"""Compile the kernels with numba at their first call on a machine, and load them from a cache folder after that."""

from __future__ import annotations

import functools
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from deeplabctl.files import user_cache

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Return a function that numba compiles at its first call, to run without the GIL; numba loads here."""
    import numba

    options = {"nogil": True, "error_model": "numpy"}
    users_own = numba.config.CACHE_DIR  # $NUMBA_CACHE_DIR; kernels of other code must not be cached in our folder
    numba.config.CACHE_DIR = users_own or cache_folder(Path(function.__code__.co_filename).parent)
    try:
        return cast(Function, numba.njit(function, cache=bool(numba.config.CACHE_DIR), **options))
    finally:
        numba.config.CACHE_DIR = users_own


def inlined(function: Function) -> Function:
    """Return a function that is inlined into each kernel that calls it: it runs and compiles faster."""
    import numba

    return cast(Function, numba.njit(function, inline="always"))


def start_without_blas() -> None:
    """Load numba without SciPy's linear algebra, which takes 0.15 s of a command: no kernel of ours calls it.

    Numba imports it at its first kernel, and goes on without it where it is missing. For a process of our own only: in
    this one, numba cannot compile ``numpy.dot`` any more.
    """
    if "scipy.linalg" in sys.modules or "numba.np.arraymath" in sys.modules:
        return
    sys.modules["scipy.linalg"] = None  # type: ignore[assignment]
    try:
        import numba.np.arraymath  # noqa: F401
    finally:
        del sys.modules["scipy.linalg"]


def are_compiled(room: str) -> bool:
    """Tell whether kernels of a room of the package are in its cache folder."""
    folder = cache_folder(Path(__file__).parent / room)
    return any(Path(folder).rglob("*.nbi")) if folder else False


@functools.cache
def cache_folder(room: Path) -> str:
    """Return the folder of a room's compiled kernels: in it, else in the user's cache; "" if neither is writable.

    Its name has a checksum of the room's sources, of this file and of `vectors`: numba recompiles a kernel when its own
    file changes, but not when a function that it calls does.
    """
    files = *sorted(room.glob("*.py")), Path(__file__), Path(__file__).with_name("vectors.py")
    sources = b"".join(path.read_bytes() for path in files)
    name = f"numba-{hashlib.sha256(sources).hexdigest()[:16]}"
    users_own = user_cache()
    for folder in (room / "__pycache__" / name, *([users_own / name] if users_own else [])):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return str(folder)
    return ""
