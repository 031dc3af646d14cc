"""Compile the kernels with numba at their first call on a machine, and load them from a cache folder after that."""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from deeplabctl.files import user_cache

Function = TypeVar("Function", bound=Callable[..., Any])
_without_blas = False  # see `leave_out_blas`


def kernel(function: Function) -> Function:
    """Return a function that numba compiles at its first call, to run without the GIL; numba loads here."""
    if _without_blas:
        _load_without_blas()
    import numba

    users_own = numba.config.CACHE_DIR  # $NUMBA_CACHE_DIR; kernels of other code must not be cached in our folder
    compiled = _compiled(function, nogil=True, error_model="numpy")
    numba.config.CACHE_DIR = users_own or cache_folder(Path(function.__code__.co_filename).parent)
    try:
        if numba.config.CACHE_DIR:
            cast(Any, compiled)._cache = _cache_class()(function)
    except RuntimeError:  # numba can write to none of its folders
        pass
    finally:
        numba.config.CACHE_DIR = users_own
    return compiled


def inlined(function: Function) -> Function:
    """Return a function that is inlined into each kernel that calls it: it runs and compiles faster."""
    return _compiled(function, inline="always")


def _compiled(function: Function, **options: Any) -> Function:
    """Return what numba compiles, even if $NUMBA_DISABLE_JIT is set: not all of our kernels run without it."""
    import numba

    disabled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 0
    try:
        return cast(Function, numba.njit(function, **options))
    finally:
        numba.config.DISABLE_JIT = disabled


@functools.cache
def _cache_class() -> type[Any]:
    """Return numba's cache, whose files cannot make a kernel fail.

    Each begins with its checksum, as damaged or truncated native code ends the process. What does not fit it, or
    was written by another version of the compiler, is compiled again; on a full disk nothing is kept.
    """
    from importlib.metadata import version

    from numba.core.caching import FunctionCache, IndexDataCacheFile

    llvmlite = version("llvmlite")

    class Files(IndexDataCacheFile):  # type: ignore[misc]
        def save(self, key: Any, data: Any) -> None:
            # numba numbers these files: two processes that begin at once would take one number for different kernels.
            name = f"{self._index_name}.{hashlib.sha256(self._dump(key)).hexdigest()[:16]}.nbc"
            self._save_data(name, data)
            self._save_index(self._load_index() | {key: name})

        def _load_index(self) -> Any:
            content = _with_checksum(self._index_path)
            version, overloads = ("", {}) if content is None else pickle.loads(content)
            return overloads if version == self._compiler else {}

        def _save_index(self, overloads: Any) -> None:
            self._write(self._index_path, self._dump((self._compiler, overloads)))

        def _load_data(self, name: str) -> Any:
            if (content := _with_checksum(self._data_path(name))) is None:
                raise OSError
            return pickle.loads(content)

        def _save_data(self, name: str, data: Any) -> None:
            self._write(self._data_path(name), self._dump(data))

        def _write(self, path: str, content: bytes) -> None:
            with self._open_for_write(path) as file:
                file.write(hashlib.sha256(content).digest() + content)

        @property
        def _compiler(self) -> Any:
            return self._version, llvmlite, self._source_stamp

    class Cache(FunctionCache):  # type: ignore[misc]
        def __init__(self, function: object) -> None:
            super().__init__(function)
            self._cache_file.__class__ = Files

        def save_overload(self, signature: object, compiled: object) -> None:
            try:
                super().save_overload(signature, compiled)
            except OSError:
                self.disable()

    return Cache


def _with_checksum(path: str) -> bytes | None:
    """Return what a file holds behind its checksum; None where it does not fit, or cannot be read."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    return content[32:] if hashlib.sha256(content[32:]).digest() == content[:32] else None


def leave_out_blas() -> None:
    """Let numba load without SciPy's linear algebra, which takes 0.15 s of a command: no kernel of ours calls it.

    Numba imports it at its first kernel, and goes on without it where it is missing. For a process of our own only: in
    this one, numba cannot compile ``numpy.dot`` any more.
    """
    global _without_blas
    _without_blas = True


def _load_without_blas() -> None:
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
