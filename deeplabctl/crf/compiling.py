"""Compile the kernels with numba, once a machine: at their first call, and from a folder of their own ever after."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from platformdirs import user_cache_path

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Let numba compile a function at its first call, to run without the GIL; numba loads here."""
    import numba

    options = {"nogil": True, "error_model": "numpy"}
    users_own = numba.config.CACHE_DIR  # $NUMBA_CACHE_DIR; other code's kernels must not land in our folder
    numba.config.CACHE_DIR = users_own or cache_folder()
    try:
        return cast(Function, numba.njit(function, cache=bool(numba.config.CACHE_DIR), **options))
    finally:
        numba.config.CACHE_DIR = users_own


def inlined(function: Function) -> Function:
    """Make a function a part of each kernel that calls it, which is faster there and compiles faster."""
    import numba

    return cast(Function, numba.njit(function, inline="always"))


def are_compiled() -> bool:
    """Tell whether kernels were compiled on this machine before."""
    return any(Path(cache_folder()).rglob("*.nbi")) if cache_folder() else False


@functools.cache
def cache_folder() -> str:
    """Return where compiled kernels are kept: beside the package, else in the user's cache; "" if neither is writable.

    Its name tells the sources, since numba renews a kernel when its own file changes but not when what it calls does.
    """
    here = Path(__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))
    name = f"numba-{hashlib.sha256(sources).hexdigest()[:16]}"
    for folder in (here / "__pycache__" / name, user_cache_path("deeplabctl") / name):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return str(folder)
    return ""
