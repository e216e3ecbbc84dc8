"""Arrays that views are written into: new ones, or slices of a caller's batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8 = npt.NDArray[np.uint8]


def output(out: UInt8 | None, shape: tuple[int, ...]) -> UInt8:
    """``out``, or a new array where it is None: uint8 of ``shape``, C-contiguous.

    Raises:
        ValueError: ``out`` is not such an array, or is read-only.
    """
    if out is None:
        return np.empty(shape, np.uint8)
    require_views(out, shape, "out")
    if not out.flags.writeable:
        raise ValueError("out cannot be written to")
    return out


def require_views(views: UInt8, shape: tuple[int, ...], name: str) -> None:
    """Check an array that is passed to C as an address and a length.

    Raises:
        ValueError: ``views`` is not uint8 of ``shape``, C-contiguous.
    """
    if views.dtype != np.uint8 or views.shape != shape or not views.flags.c_contiguous:
        order = "" if views.flags.c_contiguous else ", not contiguous"
        raise ValueError(f"{name} is {views.dtype} {list(views.shape)}{order}: expected contiguous uint8 {list(shape)}")
