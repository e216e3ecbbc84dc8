"""A sample's views: its image, its seed and, where the spec mixes, its partner's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.mixing import Mix, mix_views, partners, sample_mix
from tinyvit_kd.views.render import render_views

Uint8 = npt.NDArray[np.uint8]


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

    def seed(self, shard: int, index: int, view: int) -> int:
        """The seed of a view that is made for the first time."""
        return view_seed(self.base_seed, shard, index, view)

    def views(self, shard: int, index: int, seeds: list[int]) -> Uint8:
        """Views that are not mixed, from one decode: uint8 [V, 3, S, S].

        Raises:
            BadImageError: the image cannot be decoded.
        """
        return render_views(self.reader.read(shard, index), seeds, self.spec)

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
        return mix_views(own, self.views(shard, partner.index, [partner.seed])[0], mix), mix

    def mixed_if_whole(self, shard: int, own: Uint8, own_seed: int, partner: Partner) -> tuple[Uint8, Mix | None]:
        """The same where views are first made: a partner that is a hole leaves the view as it is."""
        try:
            return self.mixed(shard, own, own_seed, partner)
        except BadImageError:
            return own, None
