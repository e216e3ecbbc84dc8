"""What becomes of the memory that activations and the buffers of views leave behind, where glibc allocates it.

glibc returns large blocks to the kernel as soon as they are freed, and every forward pass takes them anew, page by
page. A network on the CPU can spend half of its processor time on that, and a loading process a few percent. A process
that computes keeps its memory instead, and then stays at its peak; one that loads data keeps a few MiB.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from functools import cache

# Numbers of mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_NEVER = -1  # as a threshold: glibc turns it into the largest size
# No block is mapped on its own, which would be unmapped when it is freed; and the end of the heap is never cut off.
# (M_MMAP_THRESHOLD does as well with glibc 2.36, but mallopt(3) promises 32 MiB at most.)
KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _NEVER}
# A view takes a few buffers of some hundred kilobytes. Larger ones, of large photos, are returned. 65536 is glibc's.
LOADING = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 16 << 20, _TRIM_THRESHOLD: 16 << 20}


class _Origin(ctypes.Structure):
    """``Dl_info``: where a symbol comes from."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """From now on, keep what is freed for the next forward pass; call it before the first one.

    Before this process forks, it returns all that is free: else both would hold it as soon as one of them writes to
    it. A forked process, which loads data, does as ``keep_buffers`` says.

    Args:
        environment: whoever sets the allocator up there, by ``MALLOC_*`` or ``GLIBC_TUNABLES``, is left alone.

    Returns:
        whether it does; not where another allocator than glibc's is in use, such as a preloaded jemalloc.
    """
    if not _may_set(environment, KEEPING):
        return False
    _return_memory_in_forks()
    return True


def keep_buffers(environment: Mapping[str, str] = os.environ) -> bool:
    """From now on, keep up to 16 MiB that are freed for the next view; returns whether it does, as above."""
    return _may_set(environment, LOADING)


def is_set_up(environment: Mapping[str, str]) -> bool:
    """Whether the user has set glibc's allocator up."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in environment)


def glibc() -> ctypes.CDLL | None:
    """This process's C library if it is glibc and ``malloc`` is its own; None otherwise."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        loaded = ctypes.CDLL(None)
        # musl has no function of this name. An allocator that was preloaded or linked comes first in the search.
        origins = {_base(loaded, name) for name in ("gnu_get_libc_version", "malloc", "free", "mallopt", "malloc_trim")}
    except (OSError, AttributeError):
        return None
    return loaded if len(origins) == 1 else None


def _base(loaded: ctypes.CDLL, symbol: str) -> int | None:
    """Where the file is loaded that a function comes from."""
    origin = _Origin()
    address = ctypes.cast(getattr(loaded, symbol), ctypes.c_void_p)
    return origin.base if loaded.dladdr(address, ctypes.byref(origin)) else None


def _may_set(environment: Mapping[str, str], parameters: Mapping[int, int]) -> bool:
    """Set the allocator up if it is glibc's and its user has not; returns whether it is set."""
    library = None if is_set_up(environment) else glibc()
    return library is not None and _set(library, parameters)


def _set(library: ctypes.CDLL, parameters: Mapping[int, int]) -> bool:
    return [library.mallopt(number, value) for number, value in parameters.items()] == [1] * len(parameters)


@cache
def _return_memory_in_forks() -> None:
    library = glibc()
    assert library is not None, "its settings were changed"
    os.register_at_fork(
        before=lambda: library.malloc_trim(ctypes.c_size_t(0)), after_in_child=lambda: _set(library, LOADING)
    )
