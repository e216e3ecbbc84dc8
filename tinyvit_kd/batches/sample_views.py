"""Views of a sample, from its image and seeds and, if the spec mixes, from those of its partners."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.errors import BadImageError, TransformError
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.mixing import mix_views, partners, sample_mix
from tinyvit_kd.views.render import render_views

Uint8 = npt.NDArray[np.uint8]
_CACHED_SAMPLES = 2  # the two of a pair, which the order puts next to each other


@dataclass
class SampleViews:
    """Renders views of samples, and mixes them with their partners' views.

    Args:
        reader: reads the images.
        spec: the view spec.
        base_seed: of the store or of the schedule. Seeds of new views follow from it and, if the spec mixes, the pairs.
    """

    reader: ShardReader
    spec: ViewSpec
    base_seed: int
    _cache: dict[tuple[int, int], dict[int, Uint8]] = field(default_factory=dict, init=False, repr=False)

    def seeds(self, shard: int, index: int, views: Iterable[int]) -> dict[int, int]:
        """Seeds of views that are made for the first time, by view number."""
        return {view: view_seed(self.base_seed, shard, index, view) for view in views}

    def render(self, shard: int, index: int, seeds: Sequence[int], out: Uint8) -> None:
        """Render views, not mixed and from one decode, into ``out``: uint8 [V, 3, S, S].

        Raises:
            BadImageError: the image cannot be decoded; what ``out`` then holds is undefined.
        """
        if not self.spec.mixes:
            self._render(shard, index, seeds, out)
            return
        for row, view in enumerate(self._cached_views(shard, index, seeds)):
            out[row] = view

    def partner(self, shard: int, index: int, view: int) -> int:
        """Index of the sample's partner for a view number; -1 if it has none."""
        if not self.spec.mixes:
            return -1
        length = int(self.reader.shards.lengths[shard])
        return int(partners(self.base_seed, shard, view, length)[index])

    def mix_in(
        self, shard: int, partner: int, seeds: Sequence[int], partner_seeds: Sequence[int], out: Uint8
    ) -> list[float]:
        """Mix a partner's views into those in ``out``, uint8 [V, 3, S, S]; returns each view's λ, 1 if it is not mixed.

        Args:
            seeds: of the views in ``out``.
            partner_seeds: of the partner's views.

        Raises:
            BadImageError: the partner cannot be decoded; ``out`` has not changed.
        """
        mixes = [sample_mix(*pair, self.spec) for pair in zip(seeds, partner_seeds, strict=True)]
        if not any(mixes):
            return [1.0] * len(mixes)
        partner_views = self._cached_views(shard, partner, partner_seeds)
        for row, (mix, partner_view) in enumerate(zip(mixes, partner_views, strict=True)):
            if mix is not None:
                mix_views(out[row], partner_view, mix, out[row])
        return [1.0 if mix is None else mix.lam for mix in mixes]

    def render_new(
        self, shard: int, index: int, seeds: dict[int, int], pairing_view: int, out: Uint8
    ) -> tuple[int, list[float]]:
        """Render and mix views that are made for the first time, into ``out``: uint8 [V, 3, S, S].

        If the partner is a hole, the views are not mixed.

        Args:
            seeds: of the V views, as returned by ``seeds``.
            pairing_view: the view number that decides the partner of all of them.

        Returns:
            the sample whose views were mixed in, or ``index`` itself, and each view's λ.

        Raises:
            BadImageError: the image cannot be decoded; what ``out`` then holds is undefined.
        """
        own = list(seeds.values())
        self.render(shard, index, own, out)
        partner = self.partner(shard, index, pairing_view)
        if partner >= 0:
            partner_seeds = list(self.seeds(shard, partner, seeds).values())
            try:
                return partner, self.mix_in(shard, partner, own, partner_seeds, out)
            except BadImageError:
                pass
        return index, [1.0] * len(own)

    def _cached_views(self, shard: int, index: int, seeds: Sequence[int]) -> list[Uint8]:
        """Views that are not mixed: uint8 [3, S, S] each, not to be written to.

        The latest samples' views are cached, so that the images of a pair, whose samples follow each other, are decoded
        once.
        """
        cached = self._cache.pop((shard, index), {})
        missing = [seed for seed in seeds if seed not in cached]
        if missing:
            rendered = self._render(shard, index, missing)
            cached = {seed: cached[seed] for seed in seeds if seed in cached}
            cached |= dict(zip(missing, rendered, strict=True))
            while len(self._cache) >= _CACHED_SAMPLES:
                del self._cache[next(iter(self._cache))]
        self._cache[shard, index] = cached
        return [cached[seed] for seed in seeds]

    def _render(self, shard: int, index: int, seeds: Sequence[int], out: Uint8 | None = None) -> Uint8:
        try:
            return render_views(self.reader.read(shard, index), seeds, self.spec, out)
        except TransformError as error:
            error.with_context(where=sample_name(self.reader, shard, index))
            raise


def sample_name(reader: ShardReader, shard: int, index: int) -> str:
    """How messages name a sample."""
    return f"sample {reader.key(shard, index)} of shard {reader.name(shard)}"
