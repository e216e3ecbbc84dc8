"""Renders views that a teacher saw again, and proves by their digests that they are the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit_kd.batches.sample_views import SampleViews, Uint8, sample_name
from tinyvit_kd.errors import BadImageError, ReplayError
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.views.render import view_digest

View = tuple[int, int]  # number and seed
Mixed = tuple[int, float]  # the sample that is mixed into a view, and λ; 1 where none is
_CHANGED = "the image's bytes have changed since the dump: restore the shard, or dump it again"
_CHANGED_TRANSFORM = (
    "the image's bytes, the transform's code or its libraries have changed since the dump, or it has randomness that "
    "seeding cannot reach: restore what has changed, or dump again"
)


def replay_views(
    samples: SampleViews, blocks: BlockCache, shard: int, index: int, views: Sequence[View], out: Uint8
) -> list[Mixed]:
    """Render stored views of one sample into ``out``: uint8 [V, 3, S, S].

    Args:
        samples: the images, with the store's view spec and seed.
        blocks: the store's records, which hold the seeds of partners.
        views: number and seed of each view.

    Returns:
        what is mixed into each view; empty where the spec does not mix.

    Raises:
        ReplayError: an image that the teacher saw can no longer be decoded.
    """
    decoded, seeds = index, [seed for _, seed in views]
    mixed: list[Mixed] = []
    try:
        samples.render(shard, index, seeds, out)
        for row, (number, seed) in enumerate(views if samples.spec.mixes else ()):
            mixed.append((index, 1.0))
            partner = samples.partner(shard, index, number)
            if partner < 0:
                continue
            record = blocks.records(shard, number, np.array([partner], dtype=np.int32))
            if record.valid[0]:
                decoded, others = partner, record.seeds.tolist()
                (lam,) = samples.mix_in(shard, partner, [seed], others, out[row : row + 1])
                mixed[-1] = partner, lam
    except BadImageError as error:
        raise ReplayError(
            "an image that the teacher saw can no longer be decoded",
            where=sample_name(samples.reader, shard, decoded),
            found=error.what,
            fix="restore the shard that the store was dumped from, or dump this shard again",
        ) from None
    return mixed


def require_digest(samples: SampleViews, view: Uint8, stored: int, shard: int, index: int) -> None:
    """Check a replayed view against its stored digest.

    Raises:
        ReplayError: they differ; it names the sample's key.
    """
    found = view_digest(view)
    if found != stored:
        raise ReplayError(
            "a replayed view is not the view that the teacher saw",
            where=sample_name(samples.reader, shard, index),
            found=f"digest {found:08x}",
            expected=f"digest {stored:08x}, from the store",
            fix=_CHANGED if samples.spec.transform is None else _CHANGED_TRANSFORM,
        )
