"""The check for randomness that seeding cannot reach: some of a transform's views are rendered twice and compared."""

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
        pairing_view: the view number that decided their partner.
        views: uint8 [V, 3, S, S], in the memory of the batch.
    """

    shard: int
    index: int
    seeds: dict[int, int]
    pairing_view: int
    views: npt.NDArray[np.uint8]


@dataclass
class TransformCheck:
    """Looks for randomness that seeding cannot reach, in the views that one process renders with a transform.

    All views of the first batch are rendered again, and those of one sample in every later batch.
    """

    samples: SampleViews
    _batches: int = field(default=0, init=False)

    @property
    def needed(self) -> bool:
        """Whether the views come from a transform."""
        return self.samples.spec.transform is not None

    def __call__(self, rendered: Sequence[RenderedViews]) -> None:
        """Check a batch.

        Raises:
            TransformError: the views of a sample, which it names, differ.
        """
        if not (rendered and self.needed):
            return
        if self._batches == 0:
            require_replay(self.samples, rendered)
        else:
            _compare(self.samples, rendered[self._batches % len(rendered)])
        self._batches += 1


def require_replay(samples: SampleViews, rendered: Sequence[RenderedViews]) -> None:
    """Render views twice more, with transforms that are built anew, and compare.

    The first new transform is called once beforehand, the second one twice, and the samples come in reverse order. So
    whatever a transform keeps from call to call differs at least once, whether it counts its calls or draws from a
    generator that it seeds itself.

    Raises:
        TransformError: the views of a sample, which it names, differ.
    """
    first = rendered[0]
    size = samples.spec.size
    for calls in (1, 2):
        forget_built()
        seeds = [next(iter(first.seeds.values()))] * calls
        # With a copy of the samples, since they cache views.
        replace(samples).render(first.shard, first.index, seeds, np.empty((calls, 3, size, size), np.uint8))
        for each in reversed(rendered):
            _compare(samples, each)


def _compare(samples: SampleViews, each: RenderedViews) -> None:
    again = np.empty_like(each.views)
    replace(samples).render_new(each.shard, each.index, each.seeds, each.pairing_view, again)
    for number, first, second in zip(each.seeds, each.views, again, strict=True):
        if not np.array_equal(first, second):
            raise _own_randomness(samples, each, number, view_digest(first), view_digest(second))


def _own_randomness(samples: SampleViews, each: RenderedViews, number: int, first: int, second: int) -> TransformError:
    return TransformError(
        "the transform has randomness that seeding cannot reach",
        where=f"{TRANSFORM_FIELD}: {samples.spec.transform}; {sample_name(samples.reader, each.shard, each.index)}",
        found=f"view {number}, rendered twice from seed {each.seeds[number]}, has digests {first:08x} and {second:08x}",
        expected="the same bytes from the same seed and image, whatever was rendered before",
        fix="let it draw only from Python's random, numpy.random and torch's default generator, not from the clock, "
        "os.urandom or random.SystemRandom, and keep no state from one call to the next. If it has generators of its "
        "own (numpy.random.default_rng, random.Random, torch.Generator), give it a method set_random_seed(seed) that "
        "seeds all of them, or name such a method as seed_with",
    )
