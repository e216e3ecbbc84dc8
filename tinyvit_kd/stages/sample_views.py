"""A sample's views: its image, its seed and, where the spec mixes, its partner's."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.mixing import Mix, mix_views, pairs, partners, sample_mix
from tinyvit_kd.views.render import render_views

Uint8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
_KEPT = 2  # views that are kept after rendering: the two of a pair, which the order puts next to each other


@dataclass(frozen=True)
class Pairing:
    """How samples are paired in each epoch.

    Attributes:
        seed: base seed of the views.
        view_count: V, view numbers that epochs use in turn; None: every epoch has one of its own.
    """

    seed: int
    view_count: int | None = None

    def view(self, epoch: int) -> int:
        """The view number that an epoch uses."""
        return epoch if self.view_count is None else epoch % self.view_count

    def pairs(self, epoch: int, lengths: tuple[int, ...], shard: int) -> Int64:
        """The samples of one of the shards of ``lengths``, pair after pair: int64 [lengths[shard]]."""
        return pairs(self.seed, shard, self.view(epoch), lengths[shard])


@dataclass(frozen=True)
class Partner:
    """The sample of the same shard that a view is mixed with."""

    index: int
    seed: int


@dataclass
class SampleViews:
    """Renders views of samples.

    Args:
        reader: the images.
        spec: the view spec.
        base_seed: of the store or of the schedule; seeds of views, and pairs where the spec mixes, follow from it.
    """

    reader: ShardReader
    spec: ViewSpec
    base_seed: int
    _kept: dict[tuple[int, int, int], Uint8] = field(default_factory=dict, init=False, repr=False)

    def seed(self, shard: int, index: int, view: int) -> int:
        """The seed of a view that is made for the first time."""
        return view_seed(self.base_seed, shard, index, view)

    def views(self, shard: int, index: int, seeds: list[int]) -> Uint8:
        """Views that are not mixed, from one decode: uint8 [V, 3, S, S].

        Raises:
            BadImageError: the image cannot be decoded.
        """
        return render_views(self.reader.read(shard, index), seeds, self.spec)

    def view(self, shard: int, index: int, seed: int) -> Uint8:
        """One view that is not mixed: uint8 [3, S, S]; not to be written to.

        The views that were rendered last are kept, so that a pair whose samples follow each other is decoded once.

        Raises:
            BadImageError: the image cannot be decoded.
        """
        key = shard, index, seed
        if key not in self._kept:
            view = self.views(shard, index, [seed])[0]
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = view
        return self._kept[key]

    def partner(self, shard: int, index: int, view: int) -> int:
        """Index of the sample's partner in a view number; -1 where it has none."""
        if not self.spec.mixes:
            return -1
        length = int(self.reader.shards.lengths[shard])
        return int(partners(self.base_seed, shard, view, length)[index])

    def mixed(self, shard: int, own: Uint8, own_seed: int, partner: Partner) -> tuple[Uint8, Mix | None]:
        """A view mixed with its partner's: uint8 [3, S, S], and how; None where the pair is not mixed.

        Raises:
            BadImageError: the partner cannot be decoded.
        """
        mix = sample_mix(own_seed, partner.seed, self.spec)
        if mix is None:
            return own, None
        return mix_views(own, self.view(shard, partner.index, partner.seed), mix), mix

    def mixed_if_whole(self, shard: int, own: Uint8, own_seed: int, partner: Partner) -> tuple[Uint8, Mix | None]:
        """The same where views are first made: a partner that is a hole leaves the view as it is."""
        try:
            return self.mixed(shard, own, own_seed, partner)
        except BadImageError:
            return own, None
