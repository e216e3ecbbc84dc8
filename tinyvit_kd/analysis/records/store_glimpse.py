"""What a few of a store's blocks and samples say of it, in seconds: for a report, not for a verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from tinyvit_kd.analysis.records.block_sample import choose_blocks
from tinyvit_kd.analysis.records.store_labels import StoreLabels, find_labels, open_named_shards
from tinyvit_kd.analysis.records.store_statistics import store_statistics
from tinyvit_kd.analysis.samples.stored_samples import StoredSample, StoredSamples
from tinyvit_kd.config.data import MaybeLabelledShardsConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import TinyVitKdError, said_by
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.store.store import LogitStore

VIEWS_SHOWN = 4  # of a sample
ALONE_UP_TO = 100_000  # records that one process has read before others have started
_SEED = 0x7265706F  # of the choice of blocks and samples, which is the same each time


@dataclass(frozen=True)
class StoreGlimpse:
    """A look at a store.

    Attributes:
        figures: ``StoreStatistics.as_dict()`` of some blocks; None where none were asked for, or none can be read.
        samples: some samples with their first views; empty where the shards are not there, or views cannot be made.
        names: of the teacher's classes; empty without samples.
        notes: what is not known, and why.
    """

    figures: Mapping[str, Any] | None
    samples: tuple[StoredSample, ...]
    names: Sequence[str]
    notes: tuple[str, ...]


def glimpse(
    store: LogitStore, recipes: Iterable[Mapping[str, Any]], blocks: int, samples: int, processes: int
) -> StoreGlimpse:
    """Look at some blocks and samples of a store. What goes wrong is told, and is no error.

    Args:
        recipes: ``shards`` sections of recipes that may name the shards that the store was dumped from; the first that
            are there, and are the same, are taken.
        blocks: how many are read for figures; 0 for none.
        samples: how many are shown; 0 for none.
        processes: how many read blocks.
    """
    notes: list[str] = []
    with saying("counting the blocks"):
        present = list(store.present_blocks(store.missing_blocks()))
    if not present:
        return StoreGlimpse(None, (), (), ("The store has no block yet.",))
    shards, why = _shards(store, recipes)
    figures = None
    if blocks:
        try:
            figures = _figures(store, shards, present, blocks, processes)
        except TinyVitKdError as error:
            notes.append(f"No figures: {error}")
    shown: tuple[StoredSample, ...] = ()
    names: Sequence[str] = ()
    if samples and shards is None:
        notes.append(f"No samples are shown: {why}.")
    elif samples and shards is not None:
        try:
            looked_up = StoredSamples.open(store, shards, consent="store show can be told to trust it")
            shown = tuple(_samples(store, looked_up, present, samples))
            names = looked_up.names
        except (TinyVitKdError, OSError) as error:
            notes.append(f"No samples are shown: {said_by(error) if isinstance(error, OSError) else error}")
    return StoreGlimpse(figures, shown, names, tuple(notes))


def _figures(
    store: LogitStore, shards: ShardSet | None, present: Sequence[tuple[int, int]], blocks: int, processes: int
) -> Mapping[str, Any]:
    labels = find_labels(store, shards, beside=False)
    chosen = choose_blocks(_with_labels(present, labels), blocks, seed=0)
    records = sum(store.manifest.shard_lengths[shard] for shard, _ in chosen)
    return store_statistics(store, labels, chosen, processes if records > ALONE_UP_TO else 1).as_dict()


def _with_labels(present: Sequence[tuple[int, int]], labels: StoreLabels) -> Sequence[tuple[int, int]]:
    """Where labels of some shards alone are known, blocks of these."""
    return [each for each in present if each[0] in labels.sample] or present if labels.kind == "sample" else present


def _shards(store: LogitStore, recipes: Iterable[Mapping[str, Any]]) -> tuple[ShardSet | None, str]:
    """The first of these shards that are there and are the store's; else why there are none."""
    why = "no recipe beside it, and none of a run in this report, names its shards (--shards does)"
    for recipe in recipes:
        try:
            config = MaybeLabelledShardsConfig.model_validate(
                {name: recipe[name] for name in MaybeLabelledShardsConfig.model_fields if name in recipe}
            )
        except ValidationError:
            continue
        shards, why = open_named_shards(store, config)
        if shards is not None:
            return shards, ""
    return None, why


def _samples(
    store: LogitStore, looked_up: StoredSamples, present: Sequence[tuple[int, int]], count: int
) -> Iterable[StoredSample]:
    """Samples by chance, spread over the shards that have blocks; the same each time."""
    views_of: dict[int, list[int]] = {}
    for shard, view in present:
        views_of.setdefault(shard, []).append(view)
    shards = list(views_of)
    widest = max(map(len, views_of.values()))
    shards = [shard for shard in shards if len(views_of[shard]) >= min(VIEWS_SHOWN, widest)]
    taken = set()
    for number in range(count):
        shard = shards[number * len(shards) // count % len(shards)]
        index = hash64(_SEED, shard, number) % store.manifest.shard_lengths[shard]
        if (shard, index) not in taken:
            taken.add((shard, index))
            yield looked_up.sample(shard, index, views_of[shard][:VIEWS_SHOWN])
