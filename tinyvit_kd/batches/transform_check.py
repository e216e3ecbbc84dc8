"""The check for a transform's own randomness: its views are made twice and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.errors import TransformError
from tinyvit_kd.views.render import view_digest
from tinyvit_kd.views.transform import TRANSFORM_FIELD, forget_built


@dataclass(frozen=True)
class RenderedViews:
    """A sample's views as they were rendered.

    Attributes:
        seeds: of the views, by view number.
        paired_by: the view number whose pairs they have.
        views: uint8 [V, 3, S, S], those of the batch.
    """

    shard: int
    index: int
    seeds: dict[int, int]
    paired_by: int
    views: npt.NDArray[np.uint8]


@dataclass
class TransformCheck:
    """Looks for randomness that seeding cannot reach, in what one process makes of a transform.

    All views of its first batch are made again, and those of one sample of every batch after it.
    """

    samples: SampleViews
    _batches: int = field(default=0, init=False)

    @property
    def needed(self) -> bool:
        """Whether a transform makes the views."""
        return self.samples.spec.transform is not None

    def __call__(self, rendered: Sequence[RenderedViews]) -> None:
        """Check a batch.

        Raises:
            TransformError: naming a sample whose views differ.
        """
        if not (rendered and self.needed):
            return
        if self._batches == 0:
            require_replay(self.samples, rendered)
        else:
            _compare(self.samples, rendered[self._batches % len(rendered)])
        self._batches += 1


def require_replay(samples: SampleViews, rendered: Sequence[RenderedViews]) -> None:
    """Render views twice more, by transforms that are made anew, and compare digests.

    The one is called once before, the other twice, and the samples come in reverse: so whatever a transform keeps from
    call to call is another at least once, whether it counts calls or draws from a generator that it seeds itself.

    Raises:
        TransformError: naming a sample whose views differ.
    """
    first, size = rendered[0], samples.spec.size
    for calls in (1, 2):
        forget_built()
        some = [next(iter(first.seeds.values()))] * calls
        # A copy of the samples, since the views of a pair that were rendered last are kept.
        replace(samples).render(first.shard, first.index, some, np.empty((calls, 3, size, size), np.uint8))
        for each in reversed(rendered):
            _compare(samples, each)


def _compare(samples: SampleViews, each: RenderedViews) -> None:
    again = np.empty_like(each.views)
    replace(samples).render_new(each.shard, each.index, each.seeds, each.paired_by, again)
    for number, first, second in zip(each.seeds, each.views, again, strict=True):
        if not np.array_equal(first, second):
            raise _own_randomness(samples, each, number, view_digest(first), view_digest(second))


def _own_randomness(samples: SampleViews, each: RenderedViews, number: int, first: int, second: int) -> TransformError:
    return TransformError(
        "the transform has randomness that seeding cannot reach",
        where=f"{TRANSFORM_FIELD}: {samples.spec.transform}; {sample_name(samples.reader, each.shard, each.index)}",
        found=f"view {number}, rendered twice from seed {each.seeds[number]}, has digests {first:08x} and {second:08x}",
        expected="the same bytes from the same seed and image, whatever was rendered before",
        fix="let it draw from Python's random, numpy.random and torch's default generator only, not from generators of "
        "its own (numpy.random.default_rng, random.Random or SystemRandom, torch.Generator, os.urandom, the clock), "
        "and keep nothing from one call to the next",
    )
