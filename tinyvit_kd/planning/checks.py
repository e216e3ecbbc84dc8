"""Checks of what a training learns from, and is scored on: stores, labels and class lists, across recipes."""

from __future__ import annotations

from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.data import LabelledShardsConfig
from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.errors import StoreError
from tinyvit_kd.planning.chain import Planned
from tinyvit_kd.planning.context import Context, require_policy
from tinyvit_kd.planning.images import Images
from tinyvit_kd.planning.stores import StoreFacts, facts_of, open_existing
from tinyvit_kd.runs.class_lists import assumed_classes, label_map
from tinyvit_kd.runs.label_checks import require_labels
from tinyvit_kd.runs.labelled_data import number_of_classes, require_as_many, unknown_number_of_classes
from tinyvit_kd.runs.scoring import require_views_of
from tinyvit_kd.runs.store_agreement import require_same_listing, require_trust
from tinyvit_kd.runs.stored_data import unlisted_labels
from tinyvit_kd.runs.stored_views import require_blocks, require_limit, require_views_per_sample
from tinyvit_kd.runtime.distributed import solo_job


def stored_facts(
    planned: Planned, config: PretrainConfig, images: Images | None, context: Context
) -> tuple[tuple[StoreFacts, ...], int]:
    """The stores of a recipe, and how many of their views it uses; none if the first is not known."""
    paths = [config.store.path, *(other.path for other in config.store.others)]
    found = [_facts(planned, config, path, images, context) for path in paths]
    stores = tuple(each for each in found if each is not None)
    if found[0] is None:
        return (), 0
    schedule, limit = config.schedule, config.store.views
    available = min(each.views for each in stores)
    used = min(available, limit or available)
    with context.findings.checking(planned.path):
        require_views_per_sample(schedule.views_per_sample, used)
    if limit is not None:
        with context.findings.checking(planned.path):
            require_limit(limit, used, resumed=False)
    numbers = _numbers_used(config, used)
    for each in stores:
        if config.store.follow:
            _note_followed(planned, each, numbers, context)
        elif each.store is not None:
            with context.findings.checking(planned.path):
                require_blocks(each.store, numbers, solo_job())
    if len(numbers) < used:
        context.findings.note(planned.path, f"it uses {len(numbers)} of {used} views: its epochs need no more")
    return stores, used


def _note_followed(planned: Planned, facts: StoreFacts, numbers: list[int], context: Context) -> None:
    """Say what a run that follows a dump will wait for."""
    maker = context.chain.maker(facts.path)
    if facts.store is not None:
        missing, wanted = facts.store.missing_blocks(numbers), len(numbers) * len(facts.store.manifest.shard_names)
        if missing:
            context.findings.note(
                planned.path,
                f"{facts.path} lacks {len(missing):,} of the {wanted:,} blocks that it uses: it will wait for them",
            )
    elif maker is not None and isinstance(maker.config, DumpConfig) and facts.views > 1:
        together = 1 if facts.spec.mixes else maker.config.views_per_decode
        if maker.config.block_order == "shards" or together >= facts.views:
            context.findings.note(
                planned.path,
                f"it follows the dump of {maker.path}, which completes no view before its end: set block_order: views "
                "there, and views_per_decode to less than store.views",
            )


def _numbers_used(config: PretrainConfig, count: int) -> list[int]:
    """The numbers of the views that a new run uses, of ``count`` that there are."""
    schedule = config.schedule
    if schedule.views_per_sample > count:
        return list(range(count))
    seed = schedule.seed if config.store.view_schedule == "permutation" else None
    return ViewSchedule(schedule.views_per_sample, ((0, count),), seed).used(range(schedule.epochs))


def _facts(
    planned: Planned, config: PretrainConfig, path: str, images: Images | None, context: Context
) -> StoreFacts | None:
    maker = context.chain.maker(path)
    if maker is not None:
        facts = context.stores.get(maker)
        if facts is not None:
            _check_against_dump(planned, config, maker, facts, images, context)
        return facts
    with context.findings.checking(planned.path):
        store = open_existing(path)
        if store is None:
            _missing(planned, config, path, context)
            return None
        if images is not None:
            require_same_listing(store.manifest, images.shards)
        return facts_of(store, config.store.trust_transform)
    return None


def _missing(planned: Planned, config: PretrainConfig, path: str, context: Context) -> None:
    """Refuse a recipe whose store neither is there nor is made by another recipe, and is not waited for either."""
    if config.store.follow:
        context.findings.note(
            planned.path, f"there is no store at {path} yet: it will wait for a dump to begin it; little is known of it"
        )
        return
    if context.is_to_come(planned, "store.path", path):
        context.findings.note(planned.path, f"without {path}, or the recipe that makes it, little is known of this run")
        return
    dumps = [str(each.makes) for each in context.chain.of_stage("dump-logits")]
    raise StoreError(
        "there is no store here",
        where=f"store.path: {path}",
        expected=f"{' or '.join(dumps)}, which the plan's dump-logits makes" if dumps else "",
        fix="correct the path, or give the recipe that makes it, too",
    )


def _check_against_dump(
    planned: Planned, config: PretrainConfig, maker: Planned, facts: StoreFacts, images: Images | None, context: Context
) -> None:
    assert isinstance(maker.config, DumpConfig)
    dumped, trained = maker.config.shards, config.shards
    lengths = None if images is None else tuple(images.shards.lengths.tolist())
    if facts.lengths is not None and lengths is not None and facts.lengths != lengths:
        error = StoreError(
            "the store is made of other shards than the student trains on",
            where="shards.path",
            found=f"{sum(lengths):,} samples in {trained.path}",
            expected=f"{sum(facts.lengths):,} samples in {dumped.path}, as in {maker.path}",
            fix="name the same shards in both recipes",
        )
        context.findings.refuse(planned.path, error)
    elif (dumped.path, dumped.split) != (trained.path, trained.split):
        context.findings.note(
            planned.path, f"its shards, {trained.path}, are written otherwise than those of {maker.path}, {dumped.path}"
        )
    if facts.spec.transform is not None:
        with context.findings.checking(planned.path):
            require_trust(facts.spec.transform, config.store.trust_transform, "set store.trust_transform: true")


def check_task(
    planned: Planned,
    config: PretrainConfig | FinetuneConfig,
    images: Images | None,
    num_classes: int | None,
    classes: ClassList | None,
    context: Context,
) -> tuple[int | None, ClassList | None]:
    """Check labels against classes.

    Args:
        num_classes: C of the teacher; None in stage three, where it follows from recipe and labels.
        classes: the teacher's class list; None if it is not known.

    Returns:
        C of the head and its class list; None where they are not known.
    """
    labels = named_classes(planned, config.shards, context) if images is None else images.shards.class_list
    with context.findings.checking(planned.path):
        if isinstance(config, FinetuneConfig):
            require_policy(config.views)
    with context.findings.checking(planned.path):
        if num_classes is not None:
            if labels is None and classes is not None and images is not None:
                raise unlisted_labels(classes)
            label_map(labels, classes, num_classes)
            _note_assumed(planned, images, labels, classes, "the teacher", context)
        else:
            assert isinstance(config, FinetuneConfig)
            num_classes, classes = number_of_classes(config, labels), labels
            if num_classes is None and images is not None:
                if images.exists:
                    raise unknown_number_of_classes()
                context.findings.note(
                    planned.path,
                    "how many classes it has is not known without its shards: give num_classes, as in --set",
                )
            if num_classes is not None:
                require_as_many(num_classes, labels)
    if images is not None and images.shards.known is not None and num_classes is not None:
        with context.findings.checking(planned.path):
            own = len(labels.ids) if labels is not None else num_classes
            require_labels(images.shards, config.shards, own, context.job)
    return num_classes, classes


def named_classes(planned: Planned, config: LabelledShardsConfig, context: Context) -> ClassList | None:
    """The class list that a recipe names for shards; None if it names none, or none that can be read."""
    with context.findings.checking(planned.path):
        return None if config.class_list is None else load_class_list(config.class_list)
    return None


def check_scored(
    planned: Planned,
    config: TrainingConfig,
    num_classes: int,
    classes: ClassList | None,
    size: int,
    context: Context,
) -> tuple[int, float | None]:
    """Check what a student is scored on.

    Args:
        num_classes: C of the student's head.
        classes: its class list; None if it is not known.
        size: side of its views, pixels.

    Returns:
        samples of one evaluation, and bytes per image, None where they are not known.
    """
    if config.eval is None:
        return 0, None
    with context.findings.checking(planned.path):
        require_views_of(config.eval.views.size, size, "eval.views.size")
    images = context.images(planned, config.eval.shards, scored=True)
    if images is None:
        return 0, None
    check_labels(planned, config.eval.shards, images, (num_classes, classes), "eval.shards", context)
    return images.shards.total, images.bytes_per_image


def check_labels(
    planned: Planned,
    config: LabelledShardsConfig,
    images: Images,
    head: tuple[int, ClassList | None],
    section: str,
    context: Context,
) -> None:
    """Check the labels of shards on which a network is scored.

    Args:
        head: C of the network and its class list; None if that is not known.
        section: the recipe's name for the shards, for messages.
    """
    num_classes, classes = head
    labels = images.shards.class_list
    with context.findings.checking(planned.path):
        label_map(labels, classes, num_classes)
        _note_assumed(planned, images, labels, classes, "the student", context)
    if images.shards.known is not None:
        with context.findings.checking(planned.path):
            own = len(labels.ids) if labels is not None else num_classes
            require_labels(images.shards, config, own, context.job, section)


def _note_assumed(
    planned: Planned,
    images: Images | None,
    labels: ClassList | None,
    classes: ClassList | None,
    owner: str,
    context: Context,
) -> None:
    assumed = assumed_classes(labels, classes, owner)
    if assumed is not None and images is not None and images.exists:
        context.findings.note(planned.path, assumed)
