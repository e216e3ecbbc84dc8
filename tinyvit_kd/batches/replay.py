"""Renders stored views again, mixed as the teacher saw them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinyvit_kd.batches.sample_views import SampleViews, Uint8, sample_name
from tinyvit_kd.errors import BadImageError, ReplayError
from tinyvit_kd.store.cache import BlockCache


def replay_views(
    samples: SampleViews, blocks: BlockCache, shard: int, index: int, seeds: Mapping[int, int], out: Uint8
) -> list[tuple[int, float]]:
    """Render stored views of one sample into ``out``: uint8 [V, 3, S, S].

    Args:
        samples: the images, with the store's view spec and seed.
        blocks: the store's records, which hold the seeds of partners.
        seeds: of the V views, by view number.

    Returns:
        for each view the sample that is mixed into it, and λ (1 where none is); empty if the spec does not mix.

    Raises:
        ReplayError: an image that the teacher saw can no longer be decoded.
    """
    decoded = index
    mixed: list[tuple[int, float]] = []
    try:
        samples.render(shard, index, list(seeds.values()), out)
        for row, (number, seed) in enumerate(seeds.items() if samples.spec.mixes else ()):
            mixed.append((index, 1.0))
            partner = samples.partner(shard, index, number)
            if partner < 0:
                continue
            record = blocks.records(shard, number, np.array([partner], dtype=np.int32))
            if record.valid[0]:
                decoded = partner
                (lam,) = samples.mix_in(shard, partner, [seed], record.seeds.tolist(), out[row : row + 1])
                mixed[-1] = partner, lam
    except BadImageError as error:
        raise ReplayError(
            "an image that the teacher saw can no longer be decoded",
            where=sample_name(samples.reader, shard, decoded),
            found=error.what,
            fix="restore the shard that the store was dumped from, or dump this shard again",
        ) from None
    return mixed
