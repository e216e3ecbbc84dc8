"""Stage one's look for randomness that seeding cannot reach: the first views are rendered twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.errors import TransformError
from tinyvit_kd.stages.sample_views import SampleViews, place
from tinyvit_kd.views.render import view_digest
from tinyvit_kd.views.replay import PLACE, forget_built


@dataclass(frozen=True)
class Rendered:
    """A sample's views as they were rendered.

    Attributes:
        seeds: of the views, by view number.
        digests: of the views [V].
    """

    shard: int
    index: int
    seeds: dict[int, int]
    digests: npt.NDArray[np.uint32]


def require_replay(samples: SampleViews, rendered: Sequence[Rendered]) -> None:
    """Render views again, by a transform that is made anew, and compare digests.

    The order is turned round and the last sample rendered once more than before, so that whatever a transform keeps
    from call to call is another this time, be it one view alone.

    Raises:
        TransformError: naming a sample whose views differ.
    """
    size = samples.spec.size
    forget_built()
    for each in [*rendered[-1:], *reversed(rendered)]:
        views = np.empty((len(each.seeds), 3, size, size), np.uint8)
        # Anew, as the views of a pair that were rendered last are kept.
        replace(samples).render_new(each.shard, each.index, each.seeds, next(iter(each.seeds)), views)
        for view, number, first in zip(views, each.seeds, each.digests.tolist(), strict=True):
            if view_digest(view) != first:
                raise _own_randomness(samples, each, number, first, view_digest(view))


def _own_randomness(samples: SampleViews, each: Rendered, number: int, first: int, second: int) -> TransformError:
    return TransformError(
        "the transform has randomness that seeding cannot reach",
        where=f"{PLACE}: {samples.spec.transform}; {place(samples.reader, each.shard, each.index)}",
        found=f"view {number}, rendered twice from seed {each.seeds[number]}, has digests {first:08x} and {second:08x}",
        expected="the same bytes from the same seed and image, whatever was rendered before",
        fix="let it draw from Python's random, numpy.random and torch's default generator only, not from generators of "
        "its own (numpy.random.default_rng, random.Random or SystemRandom, torch.Generator, os.urandom, the clock), "
        "and keep nothing from one call to the next",
    )
