"""What is trained on from a store: shards and stores, opened and checked against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.batches.labels import Labels
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches, block_caches
from tinyvit_kd.batches.view_schedule import ViewCounts, ViewSchedule
from tinyvit_kd.config.recipes import StoredTrainingConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.class_lists import assumed_classes, label_map, stored_classes
from tinyvit_kd.runs.following import await_stores, followed_turns
from tinyvit_kd.runs.label_checks import require_labelled, require_labels
from tinyvit_kd.runs.open_shards import label_fingerprint, open_shards
from tinyvit_kd.runs.store_agreement import require_same_shards, require_same_teaching, require_same_views
from tinyvit_kd.runs.stored_views import schedule_stored_views
from tinyvit_kd.runs.training_data import TrainingData
from tinyvit_kd.runs.waiting import Waiter
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.targets import Teachers


@dataclass(frozen=True)
class StoredData(TrainingData):
    """A store's views, with its probabilities and those of further teachers' stores.

    Attributes:
        config: the recipe.
        job: this process and its peers.
        stores: the store whose views are replayed, then those of further teachers.
        spec: what the views are.
        class_map: position in the head of each class of the labels (see ``label_map``); None: the same.
    """

    config: StoredTrainingConfig
    job: Job
    stores: list[LogitStore]
    spec: ViewSpec
    class_map: npt.NDArray[np.int64] | None

    @property
    def logit_stores(self) -> Sequence[LogitStore]:
        """The store whose views are replayed, then those of further teachers."""
        return self.stores

    def batch_maker(self, plan: StepPlan, steps: int = 1) -> StoredBatches:
        """Makes the batches of this rank, from replayed views."""
        reader = self.shards.reader(plan.shards_at_a_time)
        samples = SampleViews(reader, self.spec, self.stores[0].manifest.seed)
        labels = Labels(reader, self.class_map) if self.config.loss.uses_labels else None
        caches = block_caches(self.config.store, self.stores, plan, steps)
        return StoredBatches(samples, caches, self.config.store, plan, labels)

    def turns(self, plan: StepPlan, steps: range, stop: StopRequest, progress: Progress) -> Iterator[range]:
        """All steps at once or, with ``store.follow``, as the stores come to have their views."""
        if not self.config.store.follow:
            return super().turns(plan, steps, stop, progress)
        paths = [store.where for store in self.stores]
        waiter = Waiter(self.job, self.config.store.follow_timeout, paths, stop, progress)
        return followed_turns(self.stores, plan, steps, waiter)

    def view_schedule(self, counts: ViewCounts | None, epoch: int) -> ViewSchedule:
        """Which of the store's views each epoch uses (see ``schedule_stored_views``)."""
        return schedule_stored_views(self.config, self.stores, self.job, counts, epoch)


def open_stored_data(config: StoredTrainingConfig, job: Job) -> StoredData:
    """Open the shards and stores of a recipe, and check them against each other.

    Raises:
        StoreError: a store is missing, incomplete, or belongs to other shards, views or to another renderer.
        ConfigError: the loss needs labels, and there are none of the store's classes.
    """
    paths = [config.store.path, *(other.path for other in config.store.others)]
    if config.store.follow:
        await_stores(paths, config, job)
    with watched(config.runtime.data_timeout):
        stores = [LogitStore.open(path) for path in paths]
    manifest = stores[0].manifest
    shards = open_shards(config.shards, job, config.runtime)
    require_same_shards(manifest, shards)
    for other in stores[1:]:
        require_same_teaching(other, manifest)
    spec = require_same_views(manifest, job, config.store.trust_transform, "set store.trust_transform: true")
    classes = stored_classes(stores[0])
    weights = [config.store.weight, *(other.weight for other in config.store.others)]
    teachers = Teachers([store.manifest.topk for store in stores], weights)
    shares = [f"{share:.6g} of {store.manifest.hash}" for share, store in zip(teachers.shares, stores, strict=True)]
    class_map: npt.NDArray[np.int64] | None = None
    labelled: dict[str, str] = {}
    if config.loss.uses_labels:
        class_map = labels_in_head(config, shards, classes, manifest.num_classes, job)
        labelled = {"class list of the labels": _map_hash(class_map), "set of labels": label_fingerprint(shards)}
    return StoredData(
        shards=shards,
        image_size=spec.size,
        num_classes=manifest.num_classes,
        classes=classes,
        pairs_seed=manifest.seed if spec.mixes else None,
        objective=DistillObjective(config.loss, teachers),
        identity={
            "store": " + ".join(shares),
            "view schedule": config.store.view_schedule,  # not V: a store may grow meanwhile
            "loss": config.loss.model_dump_json(),
            **labelled,
        },
        trains_both_heads=config.loss.kind == "token",
        config=config,
        job=job,
        stores=stores,
        spec=spec,
        class_map=class_map,
    )


def labels_in_head(
    config: StoredTrainingConfig, shards: ShardSet, classes: ClassList | None, num_classes: int, job: Job
) -> npt.NDArray[np.int64] | None:
    """Check that there are labels, and map their classes to positions in the head (see ``label_map``).

    Raises:
        ConfigError: there are none, or too few, or they are of other classes than the store's.
    """
    labels = shards.class_list
    if labels is None and classes is not None:
        require_labelled(shards, config.shards)
        raise unlisted_labels(classes)
    require_labels(shards, config.shards, len(labels.ids) if labels is not None else num_classes, job)
    class_map = label_map(labels, classes, num_classes)
    if (assumed := assumed_classes(labels, classes, "the teacher")) is not None:
        say(job, assumed)
    return class_map


def _map_hash(class_map: npt.NDArray[np.int64] | None) -> str:
    return "the teacher's" if class_map is None else f"another, {xxhash.xxh3_64_hexdigest(class_map.tobytes())}"


def unlisted_labels(classes: ClassList) -> ConfigError:
    """What to say of labels that are used and have no class list, though the teacher's classes have one."""
    return ConfigError(
        "the loss uses labels, and their class list is not known",
        where="shards.class_list",
        found="no classes.txt beside the shards",
        expected=f"the class list of the labels, so that they can be found in the teacher's list, {classes.name}",
        fix=f"name the list; if the labels are numbered like the teacher's classes, it is {classes.name}",
    )
