"""How many views one core decodes and augments."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.planning.measuring.stopwatch import Rate, rate_of
from tinyvit_kd.views.mixing import pairs

_SHARDS = 4  # whose images are taken in turn
_IMAGES = 16  # in each round


def views_rate(shards: ShardSet, spec: ViewSpec, together: int) -> Rate:
    """Views per second of this process, which makes them alone, from images of a set's shards.

    Indexes that have to be made for that go to a temporary folder.

    Args:
        together: views of each image, from one decode.

    Raises:
        ShardError: the shards are missing or damaged.
    """
    with tempfile.TemporaryDirectory(prefix="tinyvit-kd-") as folder:
        complete = shards.known is not None and not shards.known.leftovers.unknown
        opened = shards if complete else replace(shards, index_dir=Path(folder))
        samples = SampleViews(opened.reader(), spec, base_seed=0)
        out = np.empty((together, 3, spec.size, spec.size), np.uint8)
        images = _images(opened, spec)

        def work() -> None:
            for _ in range(_IMAGES):
                shard, index = next(images)
                try:
                    samples.render_new(shard, index, samples.seeds(shard, index, range(together)), 0, out)
                except BadImageError:
                    continue

        work()
        return rate_of(work, _IMAGES * together)


def _images(shards: ShardSet, spec: ViewSpec) -> Iterator[tuple[int, int]]:
    """Shards and indexes of images, from several shards; of mixed views pair after pair, as in a run."""
    filled = np.flatnonzero(shards.lengths)
    chosen = filled[np.linspace(0, len(filled) - 1, min(_SHARDS, len(filled))).astype(int)].tolist()
    orders = {shard: _order(shard, int(shards.lengths[shard]), spec) for shard in chosen}
    for number in cycle(range(0, max(map(len, orders.values())), 2)):
        for shard, order in orders.items():
            for index in order[number : number + 2]:
                yield shard, int(index)


def _order(shard: int, length: int, spec: ViewSpec) -> npt.NDArray[np.int64]:
    return pairs(0, shard, 0, length) if spec.mixes else np.random.default_rng(0).permutation(length)
