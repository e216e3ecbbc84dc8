"""Random numbers as pure functions of integers.

A counter-based generator: nothing here reads or changes a global generator, and its streams do not depend on the
version of NumPy, torch or Python. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable
pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX1, _MIX2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_NORMAL = NormalDist()


def mix64(value: int) -> int:
    """A bijection of 64-bit integers in which every output bit depends on every input bit."""
    value &= _MASK
    value = ((value ^ (value >> 30)) * _MIX1) & _MASK
    value = ((value ^ (value >> 27)) * _MIX2) & _MASK
    return value ^ (value >> 31)


def hash64(*parts: int) -> int:
    """Hash integers to 64 bits; their order matters."""
    state = mix64(len(parts) + _GOLDEN)
    for part in parts:
        state = mix64(state + _GOLDEN + mix64(part + _GOLDEN))
    return state


def hash64_range(key: int, start: int, stop: int) -> npt.NDArray[np.uint64]:
    """Draws number ``start`` to ``stop - 1`` of the stream of ``key``: uint64 [stop - start]."""
    counter = np.arange(start + 1, stop + 1, dtype=np.uint64)
    value = np.uint64(key & _MASK) + counter * np.uint64(_GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX1)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX2)
    return value ^ (value >> np.uint64(31))


def permutation(key: int, length: int) -> npt.NDArray[np.int64]:
    """A permutation of 0 … length - 1 that depends on ``key`` alone: int64 [length]."""
    return np.argsort(hash64_range(key, 0, length), kind="stable")


def view_seed(base_seed: int, shard: int, index: int, view: int) -> int:
    """The 32-bit seed of one view of one sample. Stores hold it, and their readers never compute it again."""
    return hash64(base_seed, 0x76696577, shard, index, view) >> 32


class Draws:
    """A stream of random choices that follows from one seed.

    The seed is hashed first: without that, neighbouring seeds would give the same stream, shifted by one.
    """

    __slots__ = ("_state",)

    def __init__(self, *seed: int) -> None:
        self._state = hash64(*seed)

    def bits(self) -> int:
        """64 random bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        return mix64(self._state)

    def random(self) -> float:
        """A float in [0, 1) with 53 random bits."""
        return (self.bits() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """A float between ``low`` and ``high``."""
        return low + (high - low) * self.random()

    def integer(self, low: int, high: int) -> int:
        """An integer from ``low`` to ``high``, both included (as ``random.randint``)."""
        return low + ((self.bits() * (high - low + 1)) >> 64)

    def gauss(self, mean: float, std: float) -> float:
        """A normal draw by inversion, rounded to 1e-9 so that last-bit differences between libms do not matter."""
        probability = (self.bits() >> 12) * 2.0**-52 + 2.0**-53
        return round(mean + std * _NORMAL.inv_cdf(probability), 9)
