"""Views of a store rendered again, one at a time, with what is wrong with a view where something is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.digest_check import DigestCheck
from tinyvit_kd.batches.replay import replay_views
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ReplayError, StoreError, TinyVitKdError
from tinyvit_kd.runs.store_agreement import require_same_listing, stored_spec
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore

UInt8 = npt.NDArray[np.uint8]
CACHED_BYTES = 64 << 20  # of blocks; a few samples of a shard are looked at one after the other


@dataclass(frozen=True, eq=False)
class ReplayedView:
    """One view of a sample, and what its teacher said of it.

    Attributes:
        number: of the view.
        record: the teacher's answer, one record; None where the block is missing or damaged.
        pixels: uint8 [3, S, S]; None where there is no such view, or it cannot be made here.
        mixed_in: index of the sample whose view is mixed in; the sample's own if none is.
        lam: λ, the weight of the sample's own image.
        error: why this is not the view that the teacher saw, or why there is none; None if it is that view.
    """

    number: int
    record: Block | None
    pixels: UInt8 | None = None
    mixed_in: int = -1
    lam: float = 1.0
    error: TinyVitKdError | None = None

    @property
    def hole(self) -> str:
        """Why the sample has no view: ``unreadable``, ``truncated`` or ``too_large``; empty if it is no hole."""
        if self.record is None or self.record.valid[0]:
            return ""
        return RecordStatus(int(self.record.status[0])).name.lower()

    @property
    def differs(self) -> bool:
        """Whether the teacher saw a view, and it is not the one that is rendered here, if one is at all."""
        return self.record is not None and not self.hole and self.error is not None


class ReplayedViews:
    """Renders stored views again, and compares their digests.

    Args:
        store: of the teacher.
        reader: of the shards that it was dumped from.
        spec: of the store's views.
    """

    def __init__(self, store: LogitStore, reader: ShardReader, spec: ViewSpec) -> None:
        self.store, self.reader, self.spec = store, reader, spec
        self._samples = SampleViews(reader, spec, store.manifest.seed)
        self._blocks = BlockCache(store, CACHED_BYTES)
        self._check = DigestCheck(self._samples, rate=1)

    @classmethod
    def open(cls, store: LogitStore, shards: ShardSet, trusted: bool, consent: str) -> ReplayedViews:
        """Views of a store from its shards.

        Args:
            trusted: whether a transform that the store names may be imported and called.
            consent: what a user does who trusts it.

        Raises:
            ConfigError: the store's views come from a transform, which is not trusted.
            ManifestMismatchError: the store was made from other shards, or by another version of the renderer.
        """
        require_same_listing(store.manifest, shards)
        return cls(store, shards.reader(), stored_spec(store.manifest, trusted, consent))

    def view(self, shard: int, index: int, number: int) -> ReplayedView:
        """Render one view of a sample, mixed as the teacher saw it.

        Raises:
            ShardError: the shard cannot be read.
            TransformError, RendererError: the view cannot be rendered here.
        """
        try:
            record = self._blocks.records(shard, number, np.array([index], dtype=np.int32))
        except StoreError as error:
            return ReplayedView(number, None, error=error)
        if not record.valid[0]:
            return ReplayedView(number, record, error=self._no_view(shard, index, record))
        return self._replayed(shard, index, number, record)

    def _replayed(self, shard: int, index: int, number: int, record: Block) -> ReplayedView:
        out = np.empty((1, 3, self.spec.size, self.spec.size), np.uint8)
        try:
            mixed = replay_views(self._samples, self._blocks, shard, index, {number: int(record.seeds[0])}, out)
        except ReplayError as error:  # an image cannot be decoded any more
            return ReplayedView(number, record, error=error)
        mixed_in, lam = mixed[0] if mixed else (index, 1.0)
        try:
            self._check.require_same_view(out[0], int(record.digests[0]), shard, index)
        except ReplayError as error:
            return ReplayedView(number, record, out[0], mixed_in, lam, error)
        return ReplayedView(number, record, out[0], mixed_in, lam)

    def _no_view(self, shard: int, index: int, record: Block) -> ReplayError:
        return ReplayError(
            "the teacher saw no view of this sample: it is a hole",
            where=sample_name(self.reader, shard, index),
            found=RecordStatus(int(record.status[0])).name.lower(),
        )
