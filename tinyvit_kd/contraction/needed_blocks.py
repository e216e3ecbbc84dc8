"""Checks that a store has the blocks of a search: of each shard those views that are trained on, or that are scored."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from tinyvit_kd.contraction.held_out import Split
from tinyvit_kd.errors import BlockMissingError
from tinyvit_kd.store.listing import Bool
from tinyvit_kd.store.store import LogitStore

_NAMED = 4  # shards, or runs of views, that a message names


def require_needed_blocks(store: LogitStore, split: Split, trained: Sequence[int], scored: Sequence[int]) -> None:
    """Check that all blocks are there that candidates are trained or scored on.

    Args:
        trained: numbers of the views that training uses, of the shards that are not held out.
        scored: numbers of the views that are scored, of those that are.

    Raises:
        BlockMissingError: naming the views and shards that are missing.
    """
    views = sorted({*trained, *scored})
    uses = {
        "trained on": np.outer(np.array(split.trained) > 0, np.isin(views, trained)),
        "held out": np.outer(np.array(split.scored) > 0, np.isin(views, scored)),
    }
    needed: Bool = np.logical_or(*uses.values())
    missing = store.missing_table(views) & needed
    if not missing.any():
        return
    names = store.manifest.shard_names
    told = [_told(missing & table, views, names, use) for use, table in uses.items() if (missing & table).any()]
    raise BlockMissingError(
        "blocks of the store that the search needs are missing",
        where=store.where,
        found=f"{int(missing.sum()):,} of {int(needed.sum()):,} missing: {'; '.join(told)}",
        fix="dump these: dump-logits with the recipe that made the store makes just what is missing. Fewer are needed "
        "with a lower store.views or, of shards that are trained on, fewer proxy.steps",
    )


def _told(missing: Bool, views: Sequence[int], names: Sequence[str], use: str) -> str:
    """What is missing of shards of one use: ``views 0-3, 5 of a.tar, b.tar (trained on)``."""
    numbers = [views[column] for column in np.flatnonzero(missing.any(axis=0)).tolist()]
    shards = [names[shard] for shard in np.flatnonzero(missing.any(axis=1)).tolist()]
    noun = "view" if len(numbers) == 1 else "views"
    return f"{noun} {_some(_runs(numbers))} of {_some(shards)} ({use})"


def _runs(numbers: Iterable[int]) -> list[str]:
    """Ascending numbers as runs: ``0-3``, ``5``."""
    runs = [list(run) for _, run in itertools.groupby(enumerate(numbers), lambda each: each[1] - each[0])]
    return [str(run[0][1]) if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}" for run in runs]


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _NAMED:,} more" if len(words) > _NAMED else ""
    return f"{', '.join(words[:_NAMED])}{more}"
