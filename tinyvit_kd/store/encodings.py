"""How a record's probabilities are stored: one class per encoding, and the table that names them.

A new encoding is a class here, a row at the end of ``ENCODINGS``, and its name in ``config.data.Encoding``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding

Planes = npt.NDArray[np.uint8]  # [rows, n]
Rows = npt.NDArray[np.uint8]  # [n, bytes of a record]
Float32 = npt.NDArray[np.float32]

_LEVELS = 255
_BELOW_ONE = np.nextafter(np.float16(1), np.float16(0))
_SMALLEST = np.float32(0.25)  # what code 0 stands for, in levels: a stored class never decodes to zero


class ProbEncoding(ABC):
    """Probabilities and residuals of records to bytes and back.

    Attributes:
        prob_bytes: of one probability.
        residual_type: of the residual as it is stored.
        compressed: what zstd leaves of a block, measured on simulated top-100 of a 22k teacher; for free disk space.
    """

    prob_bytes: int
    residual_type: npt.DTypeLike
    compressed: float

    @abstractmethod
    def encode_probs(self, probs: Float32) -> Planes:
        """Probabilities [n, K] to planes [prob_bytes * K, n], all lowest bytes first."""

    @abstractmethod
    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """Residuals [n] as ``residual_type``."""

    @abstractmethod
    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """Bytes of probabilities [n, prob_bytes * K] to probabilities [n, K].

        Args:
            residual: decoded, [n].
            valid: bool [n]; holes have zeros.
        """


class Compact(ProbEncoding):
    """Square-root 8-bit probabilities, float16 residual; decoded probabilities and residual sum to 1."""

    prob_bytes = 1
    residual_type = np.float16
    compressed = 0.55  # measured 0.53

    def encode_probs(self, probs: Float32) -> Planes:
        """Square-root codes; a record's largest probability alone has its largest code."""
        codes = np.rint(np.sqrt(probs) * np.float32(_LEVELS)).astype(np.uint8)
        rows = np.arange(len(codes))
        best = probs.argmax(axis=1)
        tied = (codes == codes[rows, best][:, None]).sum(axis=1) > 1
        # Two codes can only be equal below 1/2, so there is room above.
        codes[rows, best] += tied
        return codes.T

    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """Residual in float16.

        Clamped at zero, since float16 probabilities can sum to more than 1; and below 1, since a residual that
        rounds up to 1 would leave nothing for the stored classes.
        """
        return np.clip(residual, 0, _BELOW_ONE).astype("<f2")

    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """Squares of the codes, scaled to what the residual leaves."""
        probs = np.maximum(rows, _SMALLEST, dtype=np.float32)  # [n, K]
        probs *= probs
        # Whatever the order of its terms, this sum is exact, so that a record decodes alike in any company.
        scale = (1 - residual) * valid / probs.sum(axis=1, dtype=np.float32)
        probs *= scale[:, None]
        return probs


class Exact(ProbEncoding):
    """Probabilities and residual in float32, bit for bit."""

    prob_bytes = 4
    residual_type = np.float32
    compressed = 0.85  # measured 0.83

    def encode_probs(self, probs: Float32) -> Planes:
        """Their bytes."""
        return byte_planes(probs.T)

    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """As it is."""
        return residual

    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """Their bytes, put together again."""
        del residual, valid
        topk = rows.shape[1] // 4
        joined: Float32 = rows.reshape(len(rows), 4, topk).transpose(0, 2, 1).copy().view(np.float32)[..., 0]
        return joined


ENCODINGS: dict[Encoding, ProbEncoding] = {"compact": Compact(), "exact": Exact()}
"""By name. A block's header holds a position in this table, so that rows are only ever added at its end."""


def byte_planes(values: npt.NDArray[np.generic]) -> Planes:
    """[rows, n] of w-byte values to [w * rows, n]: all lowest bytes first."""
    rows, length = values.shape
    width = values.dtype.itemsize
    little = np.ascontiguousarray(values).view(np.uint8).reshape(rows, length, width)
    return np.ascontiguousarray(little.transpose(2, 0, 1)).reshape(width * rows, length)
