"""The proof that a replayed view is the one that the teacher saw: digests are compared, differences refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyvit_kd.batches.sample_views import SampleViews, Uint8, sample_name
from tinyvit_kd.batches.step_plan import Int32
from tinyvit_kd.errors import ReplayError
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import view_digest

_IMAGE_CHANGED = "the image's bytes have changed since the dump: restore the shard, or dump it again"
_TRANSFORM_CHANGED = (
    "the image's bytes, the transform's code or its libraries have changed since the dump, or it has randomness that "
    "seeding cannot reach: restore what has changed, or dump again"
)


@dataclass(frozen=True)
class DigestCheck:
    """Compares the digests of views with those in a store.

    Attributes:
        samples: the samples that are replayed.
        rate: fraction of the views that are checked (``store.verify_rate``).
    """

    samples: SampleViews
    rate: float

    def covers(self, epoch: int, seed: int) -> bool:
        """Whether the view with this seed is checked in an epoch; the same in every process."""
        return self.rate == 1 or Draws(seed, epoch, 0x636865636B).random() < self.rate

    def require_same_view(self, view: Uint8, stored: int, shard: int, index: int) -> None:
        """Compare a replayed view, uint8 [3, S, S], with the digest that its record holds.

        Raises:
            ReplayError: they differ; it names the sample.
        """
        digest = view_digest(view)
        if digest != stored:
            raise ReplayError(
                "a replayed view is not the view that the teacher saw",
                where=sample_name(self.samples.reader, shard, index),
                found=f"digest {digest:08x}",
                expected=f"digest {stored:08x}, from the store",
                fix=_IMAGE_CHANGED if self.samples.spec.transform is None else _TRANSFORM_CHANGED,
            )

    def require_same_records(
        self,
        records: tuple[Block, Block],
        stores: tuple[LogitStore, LogitStore],
        shards: Int32,
        indexes: Int32,
        number: int,
    ) -> None:
        """Compare the digests that two teachers' stores hold of the same views, except where one has a hole.

        Args:
            records: of the samples, [B] each.
            stores: where they come from.
            shards, indexes: of the samples, [B] each.
            number: view number.

        Raises:
            ReplayError: two digests differ; it names the sample.
        """
        first, other = records
        differing = np.flatnonzero(first.valid & other.valid & (first.digests != other.digests))
        if len(differing):
            row = differing[0]
            raise ReplayError(
                "two teachers did not see the same view",
                where=sample_name(self.samples.reader, int(shards[row]), int(indexes[row])),
                found=f"another digest of view {number} in {stores[1].where} than in {stores[0].where}",
                fix="an image or the renderer changed between the dumps: dump this shard again into both stores",
            )
