"""The kinds of corruption: which bytes of a store, of checkpoints and of shards are damaged, and who reads them."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from benchmarks.fault_injection.corruption import MUTATIONS, Damage, Edits, Make, Mutate, cut, flip
from benchmarks.fault_injection.subjects import SIZE, SampleView, Subjects
from tinyvit_kd.store.names import MANIFEST, array_name
from tinyvit_kd.training.checkpoint import checkpoints


def kinds() -> dict[str, Make]:
    """Every kind, by its name for people."""
    made: dict[str, Make] = {}
    for name, mutate in MUTATIONS.items():
        made |= {
            f"block: {name}": partial(_block, mutate),
            f"manifest: {name}": partial(_of_store, MANIFEST, mutate),
            f"array description: {name}": partial(_array, mutate),
            f"class list: {name}": partial(_of_store, "classes.txt", mutate),
            f"checkpoint: {name}": partial(_checkpoint, mutate),
            f"model: {name}": partial(_model, mutate),
            f"shard: {name}": partial(_tar, mutate),
        }
    return made | {
        "block: deleted": _deleted,
        "block: swapped with another view": _swapped_views,
        "block: swapped with another shard": _swapped_shards,
        "block: of another teacher": partial(_foreign, "other_teacher"),
        "block: of another seed": partial(_foreign, "other_seed"),
        "block: unfinished file beside it": _stale,
        "shard: bits of an image flipped": _image,
        "shard: two samples swapped": _swapped_samples,
        "shard index: bits flipped": _index,
        "_info.json: bits flipped": _info,
    }


def _block(mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    block = rng.randrange(SIZE.shards), rng.randrange(SIZE.views)
    path = subjects.block(*block)
    return _of_block(subjects, {path: mutate(rng, path.read_bytes())}, block)


def _of_block(subjects: Subjects, edits: Edits, block: tuple[int, int]) -> Damage:
    names = (str(subjects.block(*block)),)
    return Damage(edits, names, lambda: subjects.read_blocks([block]), subjects.store_is_sound)


def _deleted(subjects: Subjects, rng: random.Random) -> Damage:
    block = rng.randrange(SIZE.shards), rng.randrange(SIZE.views)
    return _of_block(subjects, {subjects.block(*block): None}, block)


def _swapped_views(subjects: Subjects, rng: random.Random) -> Damage:
    shard = rng.randrange(SIZE.shards)
    first, second = rng.sample(range(SIZE.views), 2)
    return _swapped(subjects, (shard, first), (shard, second))


def _swapped_shards(subjects: Subjects, rng: random.Random) -> Damage:
    view = rng.randrange(SIZE.views)
    first, second = rng.sample(range(SIZE.shards), 2)
    return _swapped(subjects, (first, view), (second, view))


def _swapped(subjects: Subjects, first: tuple[int, int], second: tuple[int, int]) -> Damage:
    left, right = subjects.block(*first), subjects.block(*second)
    return _of_block(subjects, {left: right.read_bytes(), right: left.read_bytes()}, first)


def _foreign(name: str, subjects: Subjects, rng: random.Random) -> Damage:
    block = rng.randrange(SIZE.shards), rng.randrange(SIZE.views)
    path = subjects.block(*block)
    other: Path = getattr(subjects, name)
    return _of_block(subjects, {path: (other / path.relative_to(subjects.store)).read_bytes()}, block)


def _stale(subjects: Subjects, rng: random.Random) -> Damage:
    block = rng.randrange(SIZE.shards), rng.randrange(SIZE.views)
    path = subjects.block(*block)
    # zarr's own name for a file that is being written
    stale = path.with_name(f"{path.stem}.{rng.randbytes(16).hex()}.partial")
    edits: Edits = {stale: cut(rng, path.read_bytes())}
    return Damage(edits, (str(path),), lambda: subjects.read_blocks([block]), subjects.store_is_sound, True)


def _of_store(file: str, mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    """A damaged manifest or class list; every error names some file of the store."""
    path = subjects.store / file
    edits: Edits = {path: mutate(rng, path.read_bytes())}
    return Damage(edits, (str(subjects.store),), subjects.read_store, subjects.store_is_sound)


def _array(mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    shard = rng.randrange(SIZE.shards)
    path = subjects.store / array_name(shard) / "zarr.json"
    edits: Edits = {path: mutate(rng, path.read_bytes())}
    blocks = [(shard, view) for view in range(SIZE.views)]
    names = (str(path), *(str(subjects.block(*block)) for block in blocks))
    return Damage(edits, names, lambda: subjects.read_blocks(blocks), subjects.store_is_sound)


def _checkpoint(mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    newest, older = checkpoints(subjects.checkpoints)
    edits: Edits = {newest: mutate(rng, newest.read_bytes())}
    if rng.random() < 0.2:
        edits[older] = mutate(rng, older.read_bytes())
    return Damage(edits, (str(newest),), subjects.read_checkpoint)


def _model(mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    path = subjects.model
    return Damage({path: mutate(rng, path.read_bytes())}, (str(path),), subjects.read_model)


def _image(subjects: Subjects, rng: random.Random) -> Damage:
    """Bits of one image; its views are replayed, which is all that can show it."""
    shard, sample = rng.randrange(SIZE.shards), rng.randrange(SIZE.per_shard)
    index = subjects.indexes[shard]
    begin, end = int(index.offsets[sample]), int(index.offsets[sample] + index.sizes[sample])
    tar = subjects.tar(shard).read_bytes()
    damaged = tar[:begin] + flip(rng, tar[begin:end]) + tar[end:]
    views = [(view, shard, sample) for view in range(SIZE.views)]
    return _of_tar(subjects, rng, shard, damaged, views, index.key(sample))


def _tar(mutate: Mutate, subjects: Subjects, rng: random.Random) -> Damage:
    shard = rng.randrange(SIZE.shards)
    return _of_tar(subjects, rng, shard, mutate(rng, subjects.tar(shard).read_bytes()), _all_of(rng, shard))


def _swapped_samples(subjects: Subjects, rng: random.Random) -> Damage:
    shard = rng.randrange(SIZE.shards)
    tar = subjects.tar(shard).read_bytes()
    ranges = subjects.samples[shard]
    order = list(range(SIZE.per_shard))
    first, second = rng.sample(order, 2)
    order[first], order[second] = second, first
    content = b"".join(tar[slice(*ranges[sample])] for sample in order) + tar[ranges[-1][1] :]
    return _of_tar(subjects, rng, shard, content, _all_of(rng, shard))


def _index(subjects: Subjects, rng: random.Random) -> Damage:
    shard = rng.randrange(SIZE.shards)
    path = subjects.index_of(shard)
    views = _all_of(rng, shard)
    return Damage({path: flip(rng, path.read_bytes())}, (str(path),), lambda: subjects.replay(views))


def _info(subjects: Subjects, rng: random.Random) -> Damage:
    path = subjects.shards / "_info.json"
    views = [(rng.randrange(SIZE.views), shard, 0) for shard in range(SIZE.shards)]
    return Damage({path: flip(rng, path.read_bytes())}, (str(subjects.shards),), lambda: subjects.replay(views))


def _all_of(rng: random.Random, shard: int) -> list[SampleView]:
    view = rng.randrange(SIZE.views)
    return [(view, shard, sample) for sample in range(SIZE.per_shard)]


def _of_tar(
    subjects: Subjects, rng: random.Random, shard: int, content: bytes, views: list[SampleView], key: str = ""
) -> Damage:
    """A damaged tar, with the index that was made before or without one; the error names the tar or the sample."""
    path = subjects.tar(shard)
    index = subjects.index_of(shard)
    edits: Edits = {path: content, index: index.read_bytes() if rng.random() < 0.5 else None}
    sample = f"sample {key} of shard {path.name}" if key else f"of shard {path.name}"
    return Damage(edits, (str(path), sample), lambda: subjects.replay(views))
