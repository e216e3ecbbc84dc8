"""How the probabilities of records are stored: one class per encoding, and a table of their names.

To add an encoding, write a class here, append it to ``ENCODINGS``, and add its name to ``config.data.Encoding``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding

Planes = npt.NDArray[np.uint8]  # [rows, n]
Rows = npt.NDArray[np.uint8]  # [n, bytes per record]
Float32 = npt.NDArray[np.float32]

TOLERANCE = 1e-2  # deviation of a record's total probability from 1; far above the rounding of any teacher precision
_LEVELS = 255
_BELOW_ONE = np.nextafter(np.float16(1), np.float16(0))
_ROUNDING = np.float32(1e-6)  # relative, of the root and the square in float32
_CODE_ZERO = np.float32(0.25)  # the level that code 0 stands for: a stored class never decodes to zero


class ProbEncoding(ABC):
    """Encodes probabilities and residuals of records as bytes, and decodes them.

    Attributes:
        prob_bytes: bytes per probability.
        residual_type: data type of a stored residual.
        compressed: estimate of a block's size after zstd, as a fraction of its size before, for the check of free disk
            space. It was measured on the simulated top-100 of a teacher with 22k classes.
    """

    prob_bytes: int
    residual_type: npt.DTypeLike
    compressed: float

    @abstractmethod
    def encode_probs(self, probs: Float32) -> Planes:
        """Encode probabilities [n, K] as planes [prob_bytes * K, n], the lowest bytes of all K first."""

    @abstractmethod
    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """Convert residuals [n] to ``residual_type``."""

    @abstractmethod
    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """Decode the bytes of probabilities, [n, prob_bytes * K], to probabilities [n, K].

        Args:
            rows: the bytes, as ``encode_probs`` made them, transposed.
            residual: decoded residuals, [n].
            valid: bool [n]; False for holes, whose probabilities are zero.
        """

    def probs_range(self, planes: Planes) -> tuple[Float32, Float32]:
        """The smallest and the largest probabilities that are encoded as these bytes: [n, K] each.

        What a teacher said lies between them. Decoded values may lie outside, where they are scaled to sum to 1. By
        default, probabilities are taken to be rounded to floating-point numbers of ``prob_bytes``.

        Args:
            planes: as ``encode_probs`` made them, not of holes.
        """
        none = np.zeros(planes.shape[1], np.float32)
        probs = self.decode_probs(np.ascontiguousarray(planes.T), none, np.ones(len(none), np.bool_))
        half = np.spacing(probs.astype(f"f{self.prob_bytes}")).astype(np.float32) / 2
        return np.maximum(probs - half, 0), probs + half

    def residual_range(self, residual: Float32) -> tuple[Float32, Float32]:
        """The smallest and the largest residuals that are decoded as these, [n] each: half a step to either side."""
        half = np.spacing(residual.astype(self.residual_type)).astype(np.float32) / 2
        return np.maximum(residual - half, 0), residual + half

    def possible(self, planes: Planes, residual: Float32) -> npt.NDArray[np.bool_]:
        """Whether the probabilities of each record, and its residual, can be a teacher's: bool [n].

        They are finite, not negative, and sum to 1 within ``TOLERANCE``.

        Args:
            planes: as ``encode_probs`` made them.
            residual: decoded residuals, [n].
        """
        probs = self.decode_probs(np.ascontiguousarray(planes.T), residual, np.ones(len(residual), np.bool_))
        with np.errstate(invalid="ignore"):  # the comparisons find NaN and infinity
            mass = probs.sum(axis=1) + residual
            found: npt.NDArray[np.bool_] = (probs.min(axis=1) >= 0) & (residual >= 0) & (abs(mass - 1) <= TOLERANCE)
        return found

    def nonzero(self, planes: Planes) -> npt.NDArray[np.bool_]:
        """Whether a record has a probability that a hole must not have: bool [n].

        Args:
            planes: as ``encode_probs`` made them.
        """
        found: npt.NDArray[np.bool_] = np.bitwise_or.reduce(planes, axis=0) != 0
        return found


class Compact(ProbEncoding):
    """8-bit codes of the probabilities' square roots, and a float16 residual. Decoded, both together sum to 1."""

    prob_bytes = 1
    residual_type = np.float16
    compressed = 0.55  # measured 0.53

    def encode_probs(self, probs: Float32) -> Planes:
        """Square-root codes. Within a record, only the largest probability has the largest code."""
        codes = np.rint(np.sqrt(probs) * np.float32(_LEVELS)).astype(np.uint8)
        rows = np.arange(len(codes))
        best = probs.argmax(axis=1)
        tied = (codes == codes[rows, best][:, None]).sum(axis=1) > 1
        # Codes can only be equal for probabilities of about 1/2 or less, so adding 1 cannot overflow.
        codes[rows, best] += tied
        return codes.T

    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """Residuals in float16, clamped to [0, 1).

        A teacher's float16 probabilities can sum to more than 1, which gives a negative residual. A residual that
        rounds up to 1 would leave nothing for the stored classes.
        """
        return np.clip(residual, 0, _BELOW_ONE).astype("<f2")

    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """Squares of the codes, scaled to sum to 1 - residual."""
        probs = np.maximum(rows, _CODE_ZERO, dtype=np.float32)  # [n, K]
        probs *= probs
        # This sum is exact in any order of its terms, so a record decodes the same whatever it is decoded with.
        scale = (1 - residual) * valid / probs.sum(axis=1, dtype=np.float32)
        probs *= scale[:, None]
        return probs

    def probs_range(self, planes: Planes) -> tuple[Float32, Float32]:
        """As ``ProbEncoding.probs_range``: half a code to either side of each root.

        Where the largest code is just one above the next one, 1 may have been added to it.
        """
        codes = planes.T.astype(np.float32)
        below = np.full_like(codes, 0.5)
        if codes.shape[1] > 1:
            rows, best = np.arange(len(codes)), codes.argmax(axis=1)
            second = np.partition(codes, -2, axis=1)[:, -2]
            below[rows, best] += codes[rows, best] - second == 1
        low = np.square(np.maximum(codes - below, 0) / _LEVELS) * (1 - _ROUNDING)
        return low, np.minimum(np.square((codes + np.float32(0.5)) / _LEVELS) * (1 + _ROUNDING), 1)

    def residual_range(self, residual: Float32) -> tuple[Float32, Float32]:
        """As ``ProbEncoding.residual_range``; up to 1 from the largest one on."""
        low, high = super().residual_range(residual)
        return low, np.where(residual >= _BELOW_ONE, np.float32(1), high)

    def possible(self, planes: Planes, residual: Float32) -> npt.NDArray[np.bool_]:
        """As ``ProbEncoding.possible``; whatever the codes are, they decode to a sum of 1 - residual."""
        del planes
        found: npt.NDArray[np.bool_] = (residual >= 0) & (residual <= 1)
        return found

    def nonzero(self, planes: Planes) -> npt.NDArray[np.bool_]:
        """As ``ProbEncoding.nonzero``; a hole decodes to zeros, whatever its codes are."""
        return np.zeros(planes.shape[1], np.bool_)


class Exact(ProbEncoding):
    """Probabilities and residual in float32, bit for bit."""

    prob_bytes = 4
    residual_type = np.float32
    compressed = 0.85  # measured 0.83

    def encode_probs(self, probs: Float32) -> Planes:
        """The bytes of the probabilities."""
        return byte_planes(probs.T)

    def encode_residual(self, residual: Float32) -> npt.NDArray[np.floating]:
        """Residuals, unchanged."""
        return residual

    def decode_probs(self, rows: Rows, residual: Float32, valid: npt.NDArray[np.bool_]) -> Float32:
        """The probabilities, reassembled from their bytes."""
        del residual, valid
        topk = rows.shape[1] // 4
        joined: Float32 = rows.reshape(len(rows), 4, topk).transpose(0, 2, 1).copy().view(np.float32)[..., 0]
        return joined

    def probs_range(self, planes: Planes) -> tuple[Float32, Float32]:
        """As ``ProbEncoding.probs_range``: the probabilities themselves, twice."""
        none = np.zeros(planes.shape[1], np.float32)
        probs = self.decode_probs(np.ascontiguousarray(planes.T), none, np.ones(len(none), np.bool_))
        return probs, probs

    def residual_range(self, residual: Float32) -> tuple[Float32, Float32]:
        """As ``ProbEncoding.residual_range``: the residuals themselves, twice."""
        return residual, residual


ENCODINGS: dict[Encoding, ProbEncoding] = {"compact": Compact(), "exact": Exact()}
"""Encodings by name. A block's header stores a position in this table, so only append to it."""


def byte_planes(values: npt.NDArray[np.generic]) -> Planes:
    """Split values of w bytes, [rows, n], into planes [w * rows, n], the lowest bytes of all rows first."""
    rows, length = values.shape
    width = values.dtype.itemsize
    little = np.ascontiguousarray(values).view(np.uint8).reshape(rows, length, width)
    return np.ascontiguousarray(little.transpose(2, 0, 1)).reshape(width * rows, length)
