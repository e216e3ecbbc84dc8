"""What batches of new views share: holes where images cannot be decoded, and the check of a transform."""

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

    partner: int  # index of the sample; the sample's own where nothing was mixed in
    lam: list[float]  # λ of each view, 1 where it is not mixed


@dataclass
class FreshBatches(BatchMaker[TaskT, BatchT], ABC):
    """Batches of views that are made for the first time; those of a transform are checked, some are made twice.

    Attributes:
        on_bad_image: hole, or error to stop at the first image that cannot be decoded.
    """

    samples: SampleViews
    on_bad_image: str
    _check: TransformCheck = field(init=False, repr=False)
    _rendered: list[RenderedViews] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self._check = TransformCheck(self.samples)

    def render(
        self, shard: int, index: int, seeds: dict[int, int], paired_by: int, out: Uint8
    ) -> MixedIn | BadImageError:
        """New views of a sample into ``out``, uint8 [V, 3, S, S]; where they make a hole, zeros and the reason.

        Args:
            seeds: of the V views, by view number.
            paired_by: the view number whose pairs all of them have.

        Raises:
            BadImageError: the image cannot be decoded, and ``on_bad_image`` is error.
        """
        try:
            mixed_in = MixedIn(*self.samples.render_new(shard, index, seeds, paired_by, out))
        except BadImageError as error:
            out[:] = 0
            if self.on_bad_image == "error":
                error.with_context(
                    where=sample_name(self.samples.reader, shard, index),
                    fix="repair or remove the image, or set on_bad_image: hole to continue without it",
                )
                raise
            return error
        if self._check.needed:
            self._rendered.append(RenderedViews(shard, index, seeds, paired_by, out))
        return mixed_in

    def check_rendered(self) -> None:
        """Check what was rendered since the last call; to be called once per batch.

        Raises:
            TransformError: naming a sample whose views differ when they are made again.
        """
        self._check(self._rendered)
        self._rendered.clear()
