"""What batches of new views have in common: images that cannot be decoded, and the check of a transform."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field
from typing import NamedTuple

from tinyvit_kd.batches.sample_views import SampleViews, Uint8, sample_name
from tinyvit_kd.batches.transform_check import RenderedViews, TransformCheck
from tinyvit_kd.data.buffers import BatchMaker, BatchT, TaskT
from tinyvit_kd.errors import BadImageError


class MixedIn(NamedTuple):
    """What was mixed into the new views of a sample."""

    partner: int  # index of the partner sample; the sample's own index if nothing was mixed in
    lam: list[float]  # λ of each view, 1 if it is not mixed


@dataclass
class FreshBatches(BatchMaker[TaskT, BatchT], ABC):
    """Batches of views that are made for the first time. Some views of a transform are made twice, as a check.

    Attributes:
        on_bad_image: what an image that cannot be decoded becomes: hole, or error to stop.
    """

    samples: SampleViews
    on_bad_image: str
    _check: TransformCheck = field(init=False, repr=False)
    _rendered: list[RenderedViews] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self._check = TransformCheck(self.samples)

    def render(
        self, shard: int, index: int, seeds: dict[int, int], pairing_view: int, out: Uint8
    ) -> MixedIn | BadImageError:
        """Render new views of a sample into ``out``, uint8 [V, 3, S, S].

        Args:
            seeds: of the V views, by view number.
            pairing_view: the view number that decides the partner of all of them.

        Returns:
            what was mixed in, or the reason why the sample is a hole; what ``out`` then holds is undefined.

        Raises:
            BadImageError: the image cannot be decoded, and ``on_bad_image`` is error.
        """
        try:
            mixed_in = MixedIn(*self.samples.render_new(shard, index, seeds, pairing_view, out))
        except BadImageError as error:
            if self.on_bad_image == "error":
                error.with_context(
                    where=sample_name(self.samples.reader, shard, index),
                    fix="repair or remove the image, or set on_bad_image: hole to continue without it",
                )
                raise
            return error
        if self._check.needed:
            self._rendered.append(RenderedViews(shard, index, seeds, pairing_view, out))
        return mixed_in

    def check_rendered(self) -> None:
        """Check what was rendered since the last call; call it once per batch.

        Raises:
            TransformError: the views of a sample, which it names, differ when they are rendered again.
        """
        self._check(self._rendered)
        self._rendered.clear()
