"""Give arrays whose first or last float lies at a page that must not be touched: the process ends there."""

import ctypes
import mmap

import numpy as np

_LIBC = ctypes.CDLL(None, use_errno=True)
_NONE = 0  # PROT_NONE
_kept = []


def guarded(size, *, at_end):
    """Return ``size`` float32, 0, right before or after a guarded page."""
    page = mmap.PAGESIZE
    room = max(1, -(-4 * size // page)) * page
    memory = mmap.mmap(-1, room + 2 * page)
    _kept.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for place in (start, start + page + room):
        assert _LIBC.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(page), _NONE) == 0
    first = page + (room - 4 * size if at_end else 0)
    return np.frombuffer(memory, np.float32, size, first)
