"""The epoch's order: a pure function of seed, epoch, shard lengths, lanes, window and, if views are mixed, pairs.

It depends on nothing else: not on the number of processes or workers, and not on time. A run resumes at any step by
arithmetic, and one process trains on the same batches as eight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.seeding import hash64, permutation
from tinyvit_kd.runtime.wording import counted

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Pairs = Callable[[int], Int64]

_SHARDS, _WINDOW = 0x73686172, 0x77696E64  # keep the two uses of (seed, epoch) apart


class EpochOrder:
    """The place of every sample in an epoch.

    The shards are permuted, and their samples are laid end to end on one line of N positions. Lane p covers positions
    p·N/P to (p+1)·N/P - 1. Within a lane, samples are permuted inside consecutive windows, so that a lane reads one or
    two shards at a time.

    With ``pairs``, whole pairs are permuted, and lanes and windows are cut between pairs. If each lane gives an even
    number of samples to a batch, both samples of a pair are in the same batch, next to each other.

    Args:
        seed: seed of the run's order.
        epoch: number of the epoch, from 0.
        shard_lengths: samples of each shard: int64 [shards].
        lanes: P, slices of the line that are read in parallel.
        window: samples that are permuted together; with ``pairs``, rounded up to an even number.
        pairs: the samples of a shard, pair after pair: int64 [n]; the last one of an odd shard is in no pair.
    """

    def __init__(
        self, seed: int, epoch: int, shard_lengths: Int64, lanes: int, window: int, pairs: Pairs | None = None
    ) -> None:
        assert lanes >= 1
        assert window >= 1
        self._unit = 1 if pairs is None else 2  # samples that stay together
        self.lanes = lanes
        self.window = -(-window // self._unit) * self._unit
        self._pairs = pairs
        self._key = hash64(seed, epoch, _WINDOW)
        lengths = np.asarray(shard_lengths, dtype=np.int64)
        shards = permutation(hash64(seed, epoch, _SHARDS), len(lengths))
        line = _Line(shards, np.zeros_like(lengths), lengths[shards])
        self._line = line if pairs is None else _with_pairs_at_even_positions(line)
        self._ends = np.cumsum(self._line.lengths)
        self.total = int(lengths.sum())
        self._latest_windows: dict[int, tuple[int, Int32]] = {}  # by lane: number of the window and its samples

    def lane_length(self, lane: int) -> int:
        """Samples of one lane. Lanes differ by one at most; with pairs, by two."""
        return self._lane_start(lane + 1) - self._lane_start(lane)

    def steps(self, global_batch: int) -> int:
        """Whole batches of an epoch. The few samples that do not fill a last batch are left out of this epoch."""
        # The first lane has the fewest units. The last one may end with half a unit.
        return min(self.lane_length(0), self.lane_length(self.lanes - 1)) // self._samples_per_lane(global_batch)

    def lane(self, lane: int, start: int, stop: int) -> tuple[Int32, Int32]:
        """Samples number ``start`` to ``stop - 1`` of a lane: shards int32 [n], indexes int32 [n]."""
        return _concatenated(self._window_slices(lane, start, stop))

    def batch(self, step: int, global_batch: int, lanes: range) -> tuple[Int32, Int32]:
        """Samples of one step that the given lanes hold, lane after lane.

        Args:
            step: number of the step within the epoch, from 0.
            global_batch: B, samples per step over all lanes; a multiple of P.
            lanes: the wanted lanes, usually those of one rank.

        Returns:
            shards int32 [len(lanes) · B/P] and indexes within them, of the same shape.
        """
        count = self._samples_per_lane(global_batch)
        slices = [part for lane in lanes for part in self._window_slices(lane, step * count, (step + 1) * count)]
        return _concatenated(slices)

    def shards_of(self, lane: int) -> Int64:
        """The shards of a lane and, for each, from which to which of the lane's samples some are of it: int64 [n, 3].

        Those are whole windows, as nothing is said of the order inside them.
        """
        begin, end = self._lane_start(lane), self._lane_start(lane + 1)
        low = int(np.searchsorted(self._ends, begin, side="right"))
        segments = slice(low, int(np.searchsorted(self._ends, end, side="left")) + 1)
        shards, _, lengths = (column[segments] for column in self._line)
        starts = np.maximum(self._ends[segments] - lengths, begin) - begin
        stops = np.minimum(self._ends[segments], end) - begin
        shards, starts, stops = (column[stops > starts] for column in (shards, starts, stops))
        first = starts // self.window * self.window
        stop = np.minimum(-(-stops // self.window) * self.window, end - begin)
        return np.stack([shards, first, stop], axis=1)

    def _samples_per_lane(self, global_batch: int) -> int:
        assert global_batch % self.lanes == 0
        return global_batch // self.lanes

    def _lane_start(self, lane: int) -> int:
        units = -(-self.total // self._unit)
        return min(lane * units // self.lanes * self._unit, self.total)

    def _window_slices(self, lane: int, start: int, stop: int) -> list[Int32]:
        """Samples ``start`` to ``stop - 1`` of a lane, window by window: int32 [2, n] each."""
        assert 0 <= start <= stop <= self.lane_length(lane)
        slices = []
        while start < stop:
            number, offset = divmod(start, self.window)
            slices.append(self._window(lane, number)[:, offset : stop - number * self.window])
            start += slices[-1].shape[1]
        return slices

    def _window(self, lane: int, number: int) -> Int32:
        """Shards and indexes of the samples of one window, in their order: int32 [2, n]."""
        # Batches walk through a lane in order, so it is enough to cache the latest window of each lane.
        latest = self._latest_windows.get(lane)
        if latest is None or latest[0] != number:
            first = self._lane_start(lane) + number * self.window
            stop = min(first + self.window, self._lane_start(lane + 1))
            latest = number, self._locate(self._shuffle(hash64(self._key, lane, number), first, stop))
            self._latest_windows[lane] = latest
        return latest[1]

    def _shuffle(self, key: int, first: int, stop: int) -> Int64:
        """Line positions ``first`` to ``stop - 1``, permuted unit by unit: int64 [stop - first]."""
        units = permutation(key, (stop - first) // self._unit)
        positions = first + units[:, None] * self._unit + np.arange(self._unit)
        # The half unit that may end the line stays last, so that every pair begins at an even position of its lane.
        return np.append(positions.ravel(), np.arange(first + positions.size, stop))

    def _locate(self, positions: Int64) -> Int32:
        # side="right" also skips empty segments, which end where they start.
        segments = np.searchsorted(self._ends, positions, side="right")
        shards, firsts, lengths = (column[segments] for column in self._line)
        indexes = firsts + positions - (self._ends[segments] - lengths)
        if self._pairs is not None:
            for shard in np.unique(shards).tolist():
                rows = shards == shard
                indexes[rows] = self._pairs(shard)[indexes[rows]]
        return np.stack([shards, indexes]).astype(np.int32)


class _Line(NamedTuple):
    """Segments of shards, end to end: samples ``firsts`` to ``firsts + lengths - 1`` of ``shards``.

    Each field is int64 [segments].
    """

    shards: Int64
    firsts: Int64
    lengths: Int64


def _with_pairs_at_even_positions(line: _Line) -> _Line:
    """A line of whole shards, changed so that every pair begins at an even position.

    The last sample of an odd shard moves behind the next odd shard, next to that shard's last sample. If there is no
    next odd shard, it ends the line. So lanes and windows of even length split no pair, and their lengths depend on N
    alone.
    """
    shards, _, lengths = line
    odd = np.flatnonzero(lengths % 2)
    end = len(lengths)
    behind = np.repeat(np.append(odd, end)[1::2], 2)[: len(odd)]
    order = np.argsort(np.concatenate([np.arange(end), behind]), kind="stable")
    columns = (
        (shards, shards[odd]),
        (np.zeros_like(lengths), lengths[odd] - 1),
        (lengths - lengths % 2, np.ones_like(odd)),
    )
    return _Line(*(np.concatenate(column)[order] for column in columns))


def _concatenated(slices: list[Int32]) -> tuple[Int32, Int32]:
    """Slices [2, n] one after the other, as shards and indexes."""
    joined = np.concatenate([np.empty((2, 0), dtype=np.int32), *slices], axis=1)
    return joined[0], joined[1]


def rank_lanes(lanes: int, rank: int, world_size: int) -> range:
    """The lanes that one rank owns; ``world_size`` divides ``lanes``."""
    assert lanes % world_size == 0
    return range(rank * lanes // world_size, (rank + 1) * lanes // world_size)


def check_lanes(lanes: int, global_batch: int, world_size: int, views_per_sample: int = 1) -> None:
    """Check that all ranks own equally many lanes, and all lanes give equally many samples to a batch.

    Args:
        views_per_sample: M, views of each sample in a batch.

    Raises:
        ConfigError: they do not; it names the nearest values that fit.
    """
    if lanes % world_size == 0 and global_batch % (lanes * views_per_sample) == 0:
        return
    views = f", {views_per_sample} views per sample" if views_per_sample > 1 else ""
    raise ConfigError(
        "lanes, batch size and number of processes do not fit together",
        where="schedule.lanes, schedule.global_batch_size",
        found=f"lanes {lanes}, global_batch_size {global_batch}, {counted(world_size, 'process')}{views}",
        expected="lanes a multiple of the number of processes, global_batch_size a multiple of lanes"
        + (" times schedule.views_per_sample" if views else ""),
        fix=" or ".join(_remedies(lanes, global_batch, world_size, views_per_sample)),
    )


def _remedies(lanes: int, global_batch: int, world_size: int, views: int) -> list[str]:
    fitting = [n for n in range(world_size, global_batch + 1, world_size) if global_batch % (n * views) == 0]
    remedies = [f"set lanes to {_either(_nearest(fitting, lanes))}"] if fitting else []
    nearest_lanes = max(1, round(lanes / world_size)) * world_size
    unit = nearest_lanes * views
    batches = _nearest([global_batch // unit * unit, (global_batch // unit + 1) * unit], global_batch)
    change = "set" if nearest_lanes == lanes else f"set lanes to {nearest_lanes} and"
    if global_batch % (lanes * views) == 0:
        fitting = [count for count in range(1, lanes + 1) if lanes % count == 0]
        remedies.insert(0, f"start {_either(_nearest(fitting, world_size))} processes")
    return [*remedies, f"{change} global_batch_size to {_either([n for n in batches if n])}"]


def _nearest(values: list[int], target: int) -> list[int]:
    """The values nearest to ``target`` from below and from above."""
    below = [n for n in values if n <= target]
    above = [n for n in values if n >= target]
    return sorted({*below[-1:], *above[:1]})


def _either(values: list[int]) -> str:
    return " or ".join(map(str, values))
