"""Chooses the blocks of a store that figures are taken from: all of them, or some that are evenly spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from tinyvit_kd.analysis.records.store_blocks import Task
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.seeding import hash64, permutation

Blocks = Sequence[tuple[int, int]]  # (shard, view), shard by shard
VIEWS_TOGETHER = 8  # of a shard, that are read and compared by one task
_PAIR = 2  # blocks of one shard that a sample takes together, so that views can be compared


def parse_sample(text: str) -> int | float:
    """What ``--sample`` says: a number of blocks (``64``) or a fraction of them (``0.05`` or ``5%``).

    Raises:
        ConfigError: it is neither.
    """
    try:
        if text.endswith("%") or "." in text:
            fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            if 0 < fraction <= 1:
                return fraction
        elif int(text) >= 1:
            return int(text)
    except ValueError:
        pass
    raise ConfigError(
        "there is no such sample of blocks",
        where="--sample",
        found=text,
        expected="a number of blocks, as 64, or a fraction of them, as 0.05 or 5%",
    )


def choose_blocks(present: Blocks, sample: int | float | None, seed: int) -> Blocks:
    """A sample of blocks, evenly spread over shards and, by chance, over views: two of a shard at a time.

    Args:
        present: blocks to choose from, shard by shard.
        sample: how many, or a fraction of them below or equal to 1.0; None: all.
        seed: which ones.
    """
    count = len(present)
    wanted = count if sample is None else sample if isinstance(sample, int) else max(1, round(sample * count))
    if wanted >= count:
        return present
    pairs = [pair for shard, views in _by_shard(present) for pair in _shuffled_pairs(shard, views, seed)]
    chosen = -(-wanted // _PAIR)
    # Every so-many-th pair, from a random one of the first on. Seeds are hashed, so that near ones differ.
    start = hash64(seed, 0x73616D70) / 2**64
    spread = dict.fromkeys(min(int((number + start) * len(pairs) / chosen), len(pairs) - 1) for number in range(chosen))
    # A shard with an odd number of views has a single one, too; what is short comes from anywhere.
    others = permutation(hash64(seed, 0x6D6F7265), len(pairs)).tolist()
    picked = [block for place in dict.fromkeys([*spread, *others]) for block in pairs[place]]
    return sorted(picked[:wanted])


def _by_shard(blocks: Blocks) -> Iterator[tuple[int, list[int]]]:
    for shard, group in groupby(blocks, key=lambda block: block[0]):
        yield shard, [view for _, view in group]


def _shuffled_pairs(shard: int, views: list[int], seed: int) -> Iterator[list[tuple[int, int]]]:
    order = permutation(hash64(seed, 0x76696577, shard), len(views))
    shuffled = [(shard, views[place]) for place in order.tolist()]
    yield from (shuffled[start : start + _PAIR] for start in range(0, len(shuffled), _PAIR))


def tasks_of(blocks: Blocks) -> list[Task]:
    """Blocks as tasks of at most ``VIEWS_TOGETHER`` views of one shard; they do not depend on the number of processes.

    A lone last view joins the task before it, so that it can be compared, too.
    """
    return [
        Task(shard, tuple(part), first=number == 0)
        for shard, views in _by_shard(blocks)
        for number, part in enumerate(_parts(views))
    ]


def _parts(views: list[int]) -> list[list[int]]:
    parts = [views[start : start + VIEWS_TOGETHER] for start in range(0, len(views), VIEWS_TOGETHER)]
    if len(parts) > 1 and len(parts[-1]) == 1:
        parts[-2:] = [parts[-2] + parts[-1]]
    return parts
