"""When numba loads, and where its compiled kernels are kept."""

import errno
import os
import subprocess
import sys
from pathlib import Path

from deeplabctl.crf import compile_kernels
from deeplabctl.jit import _cache_class, cache_folder


def test_numba_loads_when_a_crf_runs_and_not_earlier():
    script = "import sys, deeplabctl.crf; sys.exit('numba' in sys.modules or 'llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_kernels_run_without_scipys_linear_algebra_which_can_be_imported_later():
    script = (
        "import sys, numpy as np\n"
        "from deeplabctl.jit import leave_out_blas\n"
        "leave_out_blas()\n"
        "from deeplabctl.engine.row_kernels import add\n"
        "one, total = np.ones(16, np.float32), np.zeros(16, np.float32)\n"
        "add(one, one, (np.float32(0), np.float32(9)), total, 0, 1)\n"
        "assert (total == 2).all() and 'scipy.linalg' not in sys.modules\n"
        "from scipy.linalg import inv"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_later_process_loads_the_kernels_and_compiles_none():
    compile_kernels()
    script = (
        "from deeplabctl.crf import compile_kernels; compile_kernels()\n"
        "from deeplabctl.crf import lattice, steps\n"
        "kernels = [k for m in (lattice, steps) for k in vars(m).values() if hasattr(k, 'stats')]\n"
        "assert len(kernels) > 10 and not any(k.stats.cache_misses for k in kernels)\n"
        "assert all(k.stats.cache_hits for k in (lattice.embed, steps.step, steps.unpack_dropped))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_kernels_are_kept_in_the_users_cache_if_the_package_cannot_be_written(tmp_path, monkeypatch):
    find = cache_folder.__wrapped__
    assert Path(find(tmp_path)).parent == tmp_path / "__pycache__"
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir()
    (tmp_path / "__pycache__").touch()  # a file: no folder can be made
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert Path(find(tmp_path)).parent == tmp_path / "home" / "deeplabctl"
    (tmp_path / "home").rename(tmp_path / "away")
    (tmp_path / "home").touch()
    assert find(tmp_path) == ""


def test_kernels_of_other_sources_are_not_used(tmp_path):
    before = cache_folder.__wrapped__(tmp_path)
    (tmp_path / "steps.py").write_text("PIXELS = 4")
    assert cache_folder.__wrapped__(tmp_path) != before


_ADD = (
    "import numpy as np\n"
    "from deeplabctl.engine.row_kernels import add\n"
    "one, total = np.ones(16, np.float32), np.zeros(16, np.float32)\n"
    "add(one, one, (np.float32(0), np.float32(9)), total, 0, 1)\n"
    "assert (total == 2).all()\n"
    "print(sum(add.stats.cache_hits.values()), add._cache.cache_path)"
)


def _add(**environment):
    """Run a kernel in a process of its own; returns whether it was loaded, and the folder of its cache."""
    run = subprocess.run(
        [sys.executable, "-c", _ADD], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    hits, folder = run.stdout.split()
    return int(hits), Path(folder)


def test_kernels_are_compiled_even_if_numba_is_told_not_to_and_again_if_they_are_damaged(tmp_path):
    assert _add(NUMBA_CACHE_DIR=str(tmp_path), NUMBA_DISABLE_JIT="1")[0] == 0
    (index,), (code,) = (list(tmp_path.rglob(f"*.{kind}")) for kind in ("nbi", "nbc"))
    index.write_bytes(b"")  # as a power cut leaves it
    assert _add(NUMBA_CACHE_DIR=str(tmp_path))[0] == 0
    content = bytearray(code.read_bytes())
    content[len(content) // 2] ^= 1
    code.write_bytes(content)
    assert _add(NUMBA_CACHE_DIR=str(tmp_path))[0] == 0
    assert _add(NUMBA_CACHE_DIR=str(tmp_path))[0] == 1


def test_kernels_of_another_version_of_the_compiler_are_not_loaded(tmp_path):
    cache = _cache_class()(_add)
    files = cache._cache_file
    files._cache_path = str(tmp_path)
    files._index_path = str(tmp_path / "a.nbi")
    files.save("key", "code")
    assert files.load("key") == "code"
    files._version = "0.1"
    assert files.load("key") is None


def test_of_two_processes_that_compile_at_once_none_loads_the_code_of_the_other(tmp_path, monkeypatch):
    first, second = (_cache_class()(_add)._cache_file for _ in range(2))
    for files in (first, second):
        files._cache_path, files._index_path = str(tmp_path), str(tmp_path / "a.nbi")
    write, empty = first._save_data, second._load_index()

    def write_late(name, data):  # while the second, which has seen no index, writes all of its own
        with monkeypatch.context() as patch:
            patch.setattr(second, "_load_index", lambda: dict(empty))
            second.save("key of the second", "its code")
        write(name, data)

    monkeypatch.setattr(first, "_save_data", write_late)
    first.save("key of the first", "its own code")
    assert first.load("key of the first") in ("its own code", None)
    assert second.load("key of the second") == "its code"


def test_kernels_run_without_a_cache_on_a_full_disk(monkeypatch):
    cache = _cache_class()(_add)
    monkeypatch.setattr(cache, "_save_overload", failing)
    cache.save_overload("signature", "code")
    assert not cache._enabled


def failing(*_):
    raise OSError(errno.ENOSPC, "No space left on device")
