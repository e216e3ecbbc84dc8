"""What the whole of a dump would take with a teacher that is here: hours at this machine's rates, and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.teacher import Teacher
from tinyvit_kd.planning.hours import Hours, hours_of
from tinyvit_kd.planning.measuring.networks import opened_teacher_rate
from tinyvit_kd.planning.measuring.rates import machine_of
from tinyvit_kd.planning.measuring.views import views_rate
from tinyvit_kd.planning.measuring.writing import writing_rate
from tinyvit_kd.planning.stage_plan import StagePlan, Work
from tinyvit_kd.planning.store_sizes import StoreSize, store_size
from tinyvit_kd.runtime.distributed import Job


@dataclass(frozen=True)
class WholeDump:
    """The whole of a dump with one teacher.

    Attributes:
        views_per_second: of the teacher alone, warm.
        hours: of one process on this machine.
        store: the complete store.
    """

    views_per_second: float
    hours: Hours
    store: StoreSize


def made_views_rate(config: DumpConfig, shards: ShardSet) -> float:
    """Views per second of a recipe that one core decodes and augments."""
    return views_rate(shards, config.views, _together(config)).per_second


def whole_dump(config: DumpConfig, teacher: Teacher, shards: ShardSet, made_views: float, job: Job) -> WholeDump:
    """Time a teacher and the writing of its answers, and reckon with the whole of its dump.

    Args:
        made_views: views per second of one core.
    """
    facts, lengths = teacher.facts, shards.lengths.tolist()
    rate = opened_teacher_rate(config, teacher).per_second
    rates = {
        "views": made_views,
        "teacher": rate,
        "write": writing_rate(config, facts, max(lengths)).per_second,
    }
    asked = config.store
    store = store_size(lengths, asked.views, asked.encoding, asked.topk, facts.num_classes)
    hours = hours_of(_plan(config, lengths, store), rates, machine_of(config.runtime, job))
    assert hours is not None, "it is known what there is to do"
    return WholeDump(rate, hours, store)


def _plan(config: DumpConfig, lengths: Sequence[int], store: StoreSize) -> StagePlan:
    views = store.records
    return StagePlan(
        recipe="",
        stage=config.stage,
        size=config.views.size,
        processes=1,
        workers=config.runtime.workers,
        images=len(lengths),
        samples=sum(lengths),
        views=views,
        views_per_decode=_together(config),
        mixes=config.views.mixes,
        teacher_passes=views,
        store=store,
        work=Work(views=views, teacher=views, write=views),
    )


def _together(config: DumpConfig) -> int:
    """Views that are made of one decode."""
    return 1 if config.views.mixes else min(config.views_per_decode, config.store.views)
