"""Views as images: those that a teacher saw, those that a view spec would make, and those of evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit_kd.api.samples import require_sample, require_view
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BadImageError, ConfigError
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import render_eval

UInt8 = npt.NDArray[np.uint8]
_GAP = 2  # pixels between the views of a grid
_WHITE = 255


def view_image(
    shards: ShardSet,
    source: LogitStore | ViewSpec | EvalViewSpec,
    shard: int,
    index: int,
    view: int = 0,
    *,
    seed: int = 0,
    trust_transform: bool = False,
) -> UInt8:
    """Render one view of a sample.

    Each call opens the shard and the block again, which takes tens of milliseconds. ``open_batches`` is faster for many
    views.

    Args:
        source: what defines the view. A store: the view that its teacher saw, Mixup and CutMix included; its digest
            is compared with the stored one. A ``ViewSpec``: a new view, as ``dump-logits`` would make it. An
            ``EvalViewSpec``: the fixed view of evaluation, without a number.
        view: number of the view.
        seed: base seed of new views, for example a dump's ``store.seed``. With a finetuning's ``schedule.seed``, view
            number e is the view of epoch e if the finetuning takes one view per sample.
        trust_transform: if a store's views come from a transform, import and call it. It may be any code that is
            installed here.

    Returns:
        uint8 [3, S, S], RGB.

    Raises:
        ConfigError: there is no such sample, or the store's transform is not trusted.
        ManifestMismatchError: the store was made from other shards, or by another version of the renderer.
        BlockMissingError, BlockCorruptError: the block of this view is missing or damaged.
        ReplayError: the view differs from the one that the teacher saw, or the sample is a hole.
        BadImageError: the image cannot be decoded, and ``source`` is not a store.
    """
    require_sample(shards.lengths, shard, index)
    if isinstance(source, LogitStore):
        return _stored_view(shards, source, shard, index, view, trust_transform)
    reader = shards.reader()
    try:
        if isinstance(source, EvalViewSpec):
            return render_eval(reader.read(shard, index), source)
        samples = SampleViews(reader, source, seed)
        out = _empty(source)
        samples.render_new(shard, index, samples.seeds(shard, index, [view]), view, out[None])
    except BadImageError as error:
        error.where = sample_name(reader, shard, index)
        raise
    return out


def view_grid(views: Iterable[npt.ArrayLike], columns: int | None = None) -> Image.Image:
    """Put views into one image, row by row. Notebooks display the result.

    Args:
        views: uint8 [3, S, S] each, or one array or CPU tensor [V, 3, S, S].
        columns: views per row; None: as many as make the grid about square.

    Raises:
        ConfigError: there are no views, they have another shape or type, or their sizes differ.
    """
    arrays = [np.asarray(view) for view in views]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != 3 or len(arrays[0]) != 3 or arrays[0].dtype != np.uint8:
        raise ConfigError(
            "a grid is made of views",
            where="views",
            found=", ".join(map(str, sorted(shapes))) or "none",
            expected="uint8 [3, S, S], all of one size",
        )
    _, height, width = arrays[0].shape
    columns = columns or math.ceil(math.sqrt(len(arrays)))
    rows = math.ceil(len(arrays) / columns)
    canvas = np.full((rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP, 3), _WHITE, np.uint8)
    for number, array in enumerate(arrays):
        row, column = divmod(number, columns)
        top = row * (height + _GAP)
        left = column * (width + _GAP)
        canvas[top : top + height, left : left + width] = array.transpose(1, 2, 0)
    return Image.fromarray(canvas)


def _stored_view(shards: ShardSet, store: LogitStore, shard: int, index: int, view: int, trusted: bool) -> UInt8:
    from tinyvit_kd.analysis.samples.replayed_views import ReplayedViews  # imports torch

    views = ReplayedViews.open(store, shards, trusted, "pass trust_transform=True")
    require_view(store.manifest.views, view)
    replayed = views.view(shard, index, view)
    if replayed.hole and replayed.error is not None:
        replayed.error.with_context(fix="see records(…).valid for the samples that have views")
    if replayed.error is not None:
        raise replayed.error
    assert replayed.pixels is not None
    return replayed.pixels


def _empty(spec: ViewSpec) -> UInt8:
    return np.empty((3, spec.size, spec.size), np.uint8)
