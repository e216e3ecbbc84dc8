"""A sample's views: its image, its seeds and, where the spec mixes, its partners'."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError, TransformError
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.mixing import mix_views, partners, sample_mix
from tinyvit_kd.views.render import render_views

Uint8 = npt.NDArray[np.uint8]
_KEPT = 2  # samples whose views are kept after rendering: the two of a pair, which the order puts next to each other


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
    _kept: dict[tuple[int, int], dict[int, Uint8]] = field(default_factory=dict, init=False, repr=False)

    def seeds(self, shard: int, index: int, views: Iterable[int]) -> dict[int, int]:
        """The seeds of views that are made for the first time, by view number."""
        return {view: view_seed(self.base_seed, shard, index, view) for view in views}

    def render(self, shard: int, index: int, seeds: Sequence[int], out: Uint8) -> None:
        """Views that are not mixed, from one decode, into ``out``: uint8 [V, 3, S, S].

        Raises:
            BadImageError: the image cannot be decoded; what ``out`` then holds is undefined.
        """
        if not self.spec.mixes:
            self._render(shard, index, seeds, out)
            return
        for row, view in enumerate(self._views(shard, index, seeds)):
            out[row] = view

    def partner(self, shard: int, index: int, view: int) -> int:
        """Index of the sample's partner in a view number; -1 where it has none."""
        if not self.spec.mixes:
            return -1
        length = int(self.reader.shards.lengths[shard])
        return int(partners(self.base_seed, shard, view, length)[index])

    def mix_in(self, shard: int, partner: int, seeds: Sequence[int], others: Sequence[int], out: Uint8) -> list[float]:
        """Mix a partner's views into those in ``out``, uint8 [V, 3, S, S]; returns each view's λ, 1 where not mixed.

        Args:
            seeds: of the views in ``out``.
            others: of the partner's views.

        Raises:
            BadImageError: the partner cannot be decoded; ``out`` is as it was.
        """
        mixes = [sample_mix(*pair, self.spec) for pair in zip(seeds, others, strict=True)]
        if not any(mixes):
            return [1.0] * len(mixes)
        for row, (mix, other) in enumerate(zip(mixes, self._views(shard, partner, others), strict=True)):
            if mix is not None:
                mix_views(out[row], other, mix, out[row])
        return [1.0 if mix is None else mix.lam for mix in mixes]

    def render_new(
        self, shard: int, index: int, seeds: dict[int, int], paired_by: int, out: Uint8
    ) -> tuple[int, list[float]]:
        """Views that are made for the first time, into ``out``; a partner that is a hole leaves them as they are.

        Args:
            seeds: of the V views, as ``seeds`` gives them.
            paired_by: the view number whose pairs all of them have.

        Returns:
            the sample whose views were mixed in, else ``index`` itself, and each view's λ.

        Raises:
            BadImageError: the image cannot be decoded; what ``out`` then holds is undefined.
        """
        own = list(seeds.values())
        self.render(shard, index, own, out)
        partner = self.partner(shard, index, paired_by)
        if partner >= 0:
            others = list(self.seeds(shard, partner, seeds).values())
            try:
                return partner, self.mix_in(shard, partner, own, others, out)
            except BadImageError:
                pass
        return index, [1.0] * len(own)

    def _views(self, shard: int, index: int, seeds: Sequence[int]) -> list[Uint8]:
        """Views that are not mixed: uint8 [3, S, S] each, not to be written to.

        Those that were rendered last are kept, so that a pair whose samples follow each other is decoded once.
        """
        kept = self._kept.pop((shard, index), {})
        missing = [seed for seed in seeds if seed not in kept]
        if missing:
            rendered = self._render(shard, index, missing)
            kept = {seed: kept[seed] for seed in seeds if seed in kept} | dict(zip(missing, rendered, strict=True))
            while len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
        self._kept[shard, index] = kept
        return [kept[seed] for seed in seeds]

    def _render(self, shard: int, index: int, seeds: Sequence[int], out: Uint8 | None = None) -> Uint8:
        try:
            return render_views(self.reader.read(shard, index), seeds, self.spec, out)
        except TransformError as error:
            error.with_context(where=sample_name(self.reader, shard, index))
            raise


def sample_name(reader: ShardReader, shard: int, index: int) -> str:
    """A sample's name in messages."""
    return f"sample {reader.key(shard, index)} of shard {reader.name(shard)}"
