"""The cross-entropy of each held-out sample, kept beside a score, and how two candidates differ sample by sample.

An image that is hard is hard for all candidates. What they have in common cancels in the difference of each sample, so
that the mean difference is known far better than either mean.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit_kd.runtime.files import atomic_write

Losses = npt.NDArray[np.float32]  # [N], nats, in the order of the held-out samples; NaN: a sample that does not count
FEWEST = 2  # samples, of which a standard error can be told


@dataclass(frozen=True)
class Difference:
    """The mean over samples of the difference of two candidates, nats, and its standard error."""

    mean: float
    error: float


def difference_of(one: Losses | None, other: Losses | None) -> Difference | None:
    """How one candidate differs from another on the samples that count for both.

    Returns:
        the mean of the first's losses less the other's; None where losses of either are not known, are not of the same
        samples, or fewer than two samples count.
    """
    if one is None or other is None or one.shape != other.shape:
        return None
    apart = one.astype(np.float64) - other
    apart = apart[np.isfinite(apart)]
    if len(apart) < FEWEST:
        return None
    return Difference(float(apart.mean()), float(apart.std(ddof=1)) / math.sqrt(len(apart)))


def mean_losses(of_seeds: Sequence[Losses | None]) -> Losses | None:
    """The mean over a candidate's seeds, sample by sample; None where losses of one of them are not known."""
    known = [each for each in of_seeds if each is not None]
    if not known or len(known) < len(of_seeds) or len({each.shape for each in known}) > 1:
        return None
    mean: npt.NDArray[np.float64] = np.stack(known).mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def write_losses(path: Path, losses: Losses) -> None:
    """Write the losses of a score, whole, over those of a process that did not come to write the score."""
    file = io.BytesIO()
    np.save(file, losses.astype("<f4"), allow_pickle=False)
    atomic_write(path, file.getvalue())


def read_losses(path: Path) -> Losses | None:
    """The losses of a score; None where there is no file of them that can be read."""
    try:
        found = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
    except Exception:  # of a damaged file numpy raises nearly anything
        return None
    is_whole = isinstance(found, np.ndarray) and found.dtype == np.float32 and found.ndim == 1
    return found if is_whole else None
