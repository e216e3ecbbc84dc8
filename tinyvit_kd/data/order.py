"""The epoch's order: a pure function of seed, epoch, shard lengths, lanes and window.

Nothing else enters: not the number of processes, not the number of workers, not time. A run resumes at any
step by arithmetic, and one process trains on the same batches as eight.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.seeding import hash64, permutation

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_SHARDS, _WINDOW = 0x73686172, 0x77696E64  # keep the two uses of (seed, epoch) apart


class EpochOrder:
    """Where each sample of an epoch comes.

    The shards are permuted and their samples laid end to end on one line of N positions. Lane p covers
    positions p·N/P to (p+1)·N/P - 1 of it; within a lane, samples are permuted inside consecutive windows, so
    that a lane reads one or two shards at a time.

    Args:
        seed: seed of the run's order.
        epoch: number of the epoch, from 0.
        shard_lengths: samples of each shard: int64 [shards].
        lanes: P, slices of the line that are read in parallel.
        window: samples that are permuted together.
    """

    def __init__(self, seed: int, epoch: int, shard_lengths: Int64, lanes: int, window: int) -> None:
        assert lanes >= 1
        assert window >= 1
        self.lanes, self.window, self._key = lanes, window, hash64(seed, epoch, _WINDOW)
        lengths = np.asarray(shard_lengths, dtype=np.int64)
        self._shards = permutation(hash64(seed, epoch, _SHARDS), len(lengths))
        self._ends = np.cumsum(lengths[self._shards])
        self._starts = self._ends - lengths[self._shards]
        self.total = int(lengths.sum())
        self._latest: dict[int, tuple[int, Int64]] = {}  # by lane: number and permutation

    def lane_length(self, lane: int) -> int:
        """Samples of one lane; lanes differ by one at most."""
        return self._lane_start(lane + 1) - self._lane_start(lane)

    def steps(self, global_batch: int) -> int:
        """Whole batches of an epoch; the few samples that do not fill one are left out of this epoch."""
        return self.total // self.lanes // self._share(global_batch)

    def lane(self, lane: int, start: int, stop: int) -> tuple[Int32, Int32]:
        """Samples number ``start`` to ``stop - 1`` of a lane: shards int32 [n], indexes int32 [n]."""
        return self._locate(self._positions(lane, start, stop))

    def batch(self, step: int, global_batch: int, lanes: range) -> tuple[Int32, Int32]:
        """Samples of one step that the given lanes hold, lane after lane.

        Args:
            step: number of the step within the epoch, from 0.
            global_batch: B, samples a step over all lanes; a multiple of P.
            lanes: the lanes that are wanted, usually one rank's.

        Returns:
            shards int32 [len(lanes) · B/P] and indexes within them, of the same shape.
        """
        share = self._share(global_batch)
        parts = [self._positions(lane, step * share, (step + 1) * share) for lane in lanes]
        return self._locate(np.concatenate(parts))

    def _share(self, global_batch: int) -> int:
        assert global_batch % self.lanes == 0
        return global_batch // self.lanes

    def _lane_start(self, lane: int) -> int:
        return lane * self.total // self.lanes

    def _positions(self, lane: int, start: int, stop: int) -> Int64:
        """Line positions of samples ``start`` to ``stop - 1`` of a lane: int64 [stop - start]."""
        assert 0 <= start <= stop <= self.lane_length(lane)
        parts = [np.empty(0, dtype=np.int64)]
        while start < stop:
            number, inside = divmod(start, self.window)
            first = number * self.window
            part = self._window(lane, number)[inside : stop - first]
            parts.append(part + (self._lane_start(lane) + first))
            start += len(part)
        return np.concatenate(parts)

    def _window(self, lane: int, number: int) -> Int64:
        # Batches walk through a lane in order, so the latest window of each lane is all the memory it takes.
        latest = self._latest.get(lane)
        if latest is None or latest[0] != number:
            length = min(self.window, self.lane_length(lane) - number * self.window)
            latest = number, permutation(hash64(self._key, lane, number), length)
            self._latest[lane] = latest
        return latest[1]

    def _locate(self, positions: Int64) -> tuple[Int32, Int32]:
        # "right" also steps over empty shards, which end where they start.
        rows = np.searchsorted(self._ends, positions, side="right")
        return self._shards[rows].astype(np.int32), (positions - self._starts[rows]).astype(np.int32)


def rank_lanes(lanes: int, rank: int, world_size: int) -> range:
    """The lanes that one rank owns; ``world_size`` divides ``lanes``."""
    assert lanes % world_size == 0
    return range(rank * lanes // world_size, (rank + 1) * lanes // world_size)


def check_lanes(lanes: int, global_batch: int, world_size: int) -> None:
    """Check that every rank owns equally many lanes and every lane gives equally many samples to a batch.

    Raises:
        ConfigError: if not; it names the nearest values that fit.
    """
    if lanes % world_size == 0 and global_batch % lanes == 0:
        return
    raise ConfigError(
        "lanes, batch and number of processes do not fit together",
        where="schedule.lanes, schedule.global_batch_size",
        found=f"lanes {lanes}, global_batch_size {global_batch}, {world_size} process(es)",
        expected="lanes a multiple of the number of processes, global_batch_size a multiple of lanes",
        fix=" or ".join(_remedies(lanes, global_batch, world_size)),
    )


def _remedies(lanes: int, global_batch: int, world_size: int) -> list[str]:
    fitting = [n for n in range(world_size, global_batch + 1, world_size) if global_batch % n == 0]
    remedies = [f"set lanes to {_listed(_around(fitting, lanes))}"] if fitting else []
    kept = max(1, round(lanes / world_size)) * world_size
    batches = _around([global_batch // kept * kept, (global_batch // kept + 1) * kept], global_batch)
    change = "set" if kept == lanes else f"set lanes to {kept} and"
    return [*remedies, f"{change} global_batch_size to {_listed([n for n in batches if n])}"]


def _around(values: list[int], target: int) -> list[int]:
    """The values next to ``target`` on both sides."""
    below, above = [n for n in values if n <= target], [n for n in values if n >= target]
    return sorted({*below[-1:], *above[:1]})


def _listed(values: list[int]) -> str:
    return " or ".join(map(str, values))
