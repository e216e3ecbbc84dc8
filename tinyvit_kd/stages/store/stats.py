"""``store stats``: what a store says of its teacher and of itself, as a few tables."""

from __future__ import annotations

from os import PathLike
from typing import Any

from tinyvit_kd.analysis.records.block_sample import Blocks, choose_blocks, parse_sample
from tinyvit_kd.analysis.records.statistics_text import describe
from tinyvit_kd.analysis.records.store_labels import StoreLabels, find_labels, open_stored_shards
from tinyvit_kd.analysis.records.store_statistics import store_statistics
from tinyvit_kd.errors import StoreError
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.store.store import LogitStore

Tree = dict[str, Any]


def stats(
    path: str | PathLike[str],
    processes: int,
    sample: str | None = None,
    seed: int = 0,
    shards: str | None = None,
    **options: Any,
) -> tuple[str, Tree]:
    """The figures of a store, for people, and as plain data.

    Args:
        processes: how many share the work.
        sample: a number or a fraction of blocks (``parse_sample``); None: all.
        seed: which blocks are in the sample.
        shards: those that the store was dumped from, for their labels; None: those that its results name, else labels
            that the store keeps.
        options: of ``ShardSet.load``.

    Raises:
        StoreError: there is no store, it has no block, or none can be read.
        ManifestMismatchError, ShardError, ConfigError: the shards are others or cannot be read, or an option is wrong.
    """
    asked = None if sample is None else parse_sample(sample)
    store = LogitStore.open(path)
    labels = find_labels(store, None if shards is None else open_stored_shards(store, shards, **options))
    with saying("counting the blocks"):
        present = list(store.present_blocks(store.missing_blocks()))
    if not present:
        raise StoreError("the store has no block", where=store.where, fix="run dump-logits, which makes them")
    blocks = choose_blocks(_candidates(present, labels, asked), asked, seed)
    figures = store_statistics(store, labels, blocks, processes).as_dict()
    figures["read"]["seed"] = seed if figures["read"]["is_sample"] else None
    return describe(figures), figures


def _candidates(present: Blocks, labels: StoreLabels, asked: int | float | None) -> Blocks:
    """Blocks that a sample is taken from: where labels of some shards alone are known, blocks of these."""
    if asked is None or labels.kind != "sample":
        return present
    return [block for block in present if block[0] in labels.sample] or present
