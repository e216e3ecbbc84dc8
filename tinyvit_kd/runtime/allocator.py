"""What C's allocator does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 16 << 20  # bytes


def keep_freed_memory() -> bool:
    """Let this process keep up to 16 MiB that it has freed, instead of giving them back to the system again and again.

    A view takes a few buffers of some hundred kilobytes. glibc gives such memory back as soon as it is freed, and the
    system clears each page anew when it is next touched, which takes a few percent of the time of a view.

    Returns:
        whether the system's allocator can be told so.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(mallopt(which, _KEPT) for which in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
