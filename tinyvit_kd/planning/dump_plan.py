"""The plan of stage one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.model_location import is_there
from tinyvit_kd.planning.chain import Planned
from tinyvit_kd.planning.context import Context, require_policy
from tinyvit_kd.planning.images import Images
from tinyvit_kd.planning.memory import dump_memory
from tinyvit_kd.planning.models import PlannedTeacher, planned_teacher
from tinyvit_kd.planning.stage_plan import StagePlan, Work
from tinyvit_kd.planning.store_sizes import record_bytes, store_size
from tinyvit_kd.planning.stores import (
    StoreFacts,
    facts_of,
    measured_record_bytes,
    open_existing,
    require_same_recipe,
)
from tinyvit_kd.runs.new_store import check_topk, expected_bytes, require_possible, teacher_classes
from tinyvit_kd.store.store import LogitStore


@dataclass(frozen=True, eq=False)
class _Begun:
    """The store that a dump goes on with, listed once.

    Attributes:
        missing: (shard, view) of its blocks that are not there.
        record_bytes: of its blocks; None if there are none yet.
    """

    store: LogitStore
    missing: list[tuple[int, int]]
    record_bytes: float | None

    @classmethod
    def of(cls, store: LogitStore) -> _Begun:
        missing = store.missing_blocks()
        return cls(store, missing, measured_record_bytes(store, missing))


def plan_dump(planned: Planned, context: Context) -> StagePlan:
    """What a dump will take; what is wrong with it becomes findings."""
    config = planned.config
    assert isinstance(config, DumpConfig)
    config = _with_first_views(planned, config, context)
    images = context.images(planned, config.shards)
    with context.findings.checking(planned.path):
        require_policy(config.views)
    teacher = _teacher(planned, config, context)
    classes = _checked_classes(planned, config, teacher, images, context)
    store: LogitStore | None = None
    with context.findings.checking(planned.path):
        store = open_existing(config.store.path)
        if store is not None and images is not None:
            require_same_recipe(store, config, teacher.facts if teacher else None, images.shards)
    begun = None if store is None else _Begun.of(store)
    facts = _facts(config, teacher, classes, images, begun)
    if facts is not None:
        context.stores[planned] = facts
    return _numbers(planned, config, images, teacher, facts, begun, context)


def _with_first_views(planned: Planned, config: DumpConfig, context: Context) -> DumpConfig:
    """The recipe with the views of another teacher's store, where it takes them from one."""
    path = config.views_from
    if path is None:
        return config
    maker = context.chain.maker(path)
    first = context.stores.get(maker) if maker is not None else None
    with context.findings.checking(planned.path):
        if first is None and not context.is_to_come(planned, "views_from", path):
            first = facts_of(LogitStore.open(path), trusted=config.views.transform is not None)
    if first is None:
        return config
    store = config.store.model_copy(update={"seed": first.seed})
    return config.model_copy(update={"views": first.spec, "store": store})


def _teacher(planned: Planned, config: DumpConfig, context: Context) -> PlannedTeacher | None:
    checkpoint = config.teacher.checkpoint
    made = context.made_student(checkpoint)
    missing = checkpoint is not None and not is_there(checkpoint) and made is None
    to_be_made = missing and context.chain.maker(checkpoint or "") is not None  # by a recipe of which little is known
    if missing and not to_be_made and not context.is_to_come(planned, "teacher.checkpoint", checkpoint):
        context.findings.refuse(
            planned.path,
            CheckpointError(
                "the teacher's checkpoint is missing",
                where=f"teacher.checkpoint: {checkpoint}",
                fix="correct the path, or give the recipe that makes it, too",
            ),
        )
    named = config.teacher.name or config.teacher.call or config.teacher.torchvision
    if missing and named is None:
        return None
    with context.findings.checking(planned.path):
        teacher = planned_teacher(config.teacher, made)
        context.teachers[planned] = teacher
        if teacher.facts.image_size != config.views.size:
            context.findings.note(
                planned.path,
                f"views of {config.views.size} pixels are resized for the teacher, which takes "
                f"{teacher.facts.image_size}",
            )
        return teacher
    return None


def _checked_classes(
    planned: Planned, config: DumpConfig, teacher: PlannedTeacher | None, images: Images | None, context: Context
) -> ClassList | None:
    if teacher is None:
        return None
    classes: ClassList | None = None
    with context.findings.checking(planned.path):
        check_topk(config, teacher)
    with context.findings.checking(planned.path):
        classes = teacher_classes(config, teacher)
    if images is not None:
        with context.findings.checking(planned.path):
            require_possible(config, teacher, images.shards)
    return classes


def _facts(
    config: DumpConfig,
    teacher: PlannedTeacher | None,
    classes: ClassList | None,
    images: Images | None,
    begun: _Begun | None,
) -> StoreFacts | None:
    if teacher is None:
        return None
    asked, num_classes = config.store, teacher.facts.num_classes
    measured = None if begun is None else begun.record_bytes
    return StoreFacts(
        path=asked.path,
        spec=config.views,
        lengths=None if images is None else tuple(images.shards.lengths.tolist()),
        views=asked.views if begun is None else max(asked.views, begun.store.manifest.views),
        num_classes=num_classes,
        classes=classes,
        topk=asked.topk,
        encoding=asked.encoding,
        seed=asked.seed,
        record_bytes=measured or record_bytes(asked.encoding, asked.topk, num_classes),
    )


def _numbers(
    planned: Planned,
    config: DumpConfig,
    images: Images | None,
    teacher: PlannedTeacher | None,
    facts: StoreFacts | None,
    begun: _Begun | None,
    context: Context,
) -> StagePlan:
    together = 1 if config.views.mixes else min(config.views_per_decode, config.store.views)
    plan = StagePlan(
        recipe=planned.path,
        stage=planned.stage,
        size=config.views.size,
        processes=context.assumptions.processes,
        workers=config.runtime.workers,
        views_per_decode=together,
        mixes=config.views.mixes,
        network=teacher.cost if teacher else None,
    )
    if teacher is not None:
        precision = context.precision(config.runtime, trains=False)
        memory = dump_memory(config, teacher.cost, precision)
        plan = replace(plan, memory=memory)
    if images is None:
        return plan
    lengths: list[int] = images.shards.lengths.tolist()
    if begun is not None:
        blocks = len(lengths) * begun.store.manifest.views
        here = blocks - len(begun.missing)
        context.findings.note(
            planned.path, f"{config.store.path} has {here:,} of {blocks:,} blocks already, which are not made again"
        )
    left = _left(lengths, facts.views if facts else config.store.views, begun)
    views = sum(left)
    # Each group of views that are made together decodes the images of its shard once.
    decodes = views if together == 1 else sum(_groups(lengths, left, together))
    read = None if images.bytes_per_image is None else decodes * images.bytes_per_image
    plan = replace(
        plan,
        images=len(lengths),
        samples=sum(lengths),
        epochs=None,
        views=views,
        decodes=decodes,
        teacher_passes=views,
        image_bytes=read,
        work=Work(views=views, teacher=views, write=views, read=read),
    )
    if teacher is None or facts is None:
        return plan
    asked = config.store
    measured = None if begun is None else begun.record_bytes
    size = store_size(lengths, facts.views, asked.encoding, asked.topk, facts.num_classes, measured)
    expected = expected_bytes(lengths, asked.encoding, asked.topk, facts.num_classes)
    context.needs.append((planned, Path(asked.path), expected * views // max(1, sum(lengths))))
    return replace(
        plan, store=size, written=views * size.record_bytes, multiply_adds=float(views * teacher.cost.multiply_adds)
    )


def _left(lengths: list[int], views: int, begun: _Begun | None) -> list[int]:
    """Views that are still to be made, by shard."""
    if begun is None:
        return [length * views for length in lengths]
    left = [length * (views - min(views, begun.store.manifest.views)) for length in lengths]
    for shard, view in begun.missing:
        if shard < len(left) and view < views:
            left[shard] += lengths[shard]
    return left


def _groups(lengths: list[int], left: list[int], together: int) -> list[int]:
    """Images that are decoded, by shard."""
    return [
        length * -(-views // (length * together)) if length else 0 for length, views in zip(lengths, left, strict=True)
    ]
