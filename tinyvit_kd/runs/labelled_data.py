"""What stage three trains on: labelled shards, opened and checked."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.batches.labelled_batches import LabelledBatches
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.recipes import FinetuneConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.label_checks import require_labelled, require_labels
from tinyvit_kd.runs.open_shards import fingerprint, label_fingerprint, open_shards
from tinyvit_kd.runs.store_agreement import check_views
from tinyvit_kd.runs.training_data import TrainingData
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.objectives import PlainObjective


@dataclass(frozen=True)
class LabelledData(TrainingData):
    """Labelled shards, of which new views are made."""

    config: FinetuneConfig

    def batch_maker(self, plan: StepPlan, steps: int = 1) -> LabelledBatches:
        """Makes the batches of this rank, from new views."""
        del steps
        reader = self.shards.reader(plan.shards_at_a_time)
        samples = SampleViews(reader, self.config.views, self.config.schedule.seed)
        return LabelledBatches(samples, self.config.on_bad_image, plan)


def open_labelled_data(config: FinetuneConfig, job: Job) -> LabelledData:
    """Open and check the shards of a recipe.

    Raises:
        ConfigError: there are no labels, or the number of classes is unknown, too small for a label, or not that of the
            class list.
        ShardError: the shards are missing, compressed, truncated or damaged.
    """
    check_views(config.views, job)
    shards = open_shards(config.shards, job, config.runtime)
    classes = shards.class_list
    num_classes = number_of_classes(config, classes)
    if num_classes is None:
        require_labelled(shards, config.shards)
        raise unknown_number_of_classes()
    require_labels(shards, config.shards, num_classes, job)
    require_as_many(num_classes, classes)
    return LabelledData(
        shards=shards,
        image_size=config.views.size,
        num_classes=num_classes,
        classes=classes,
        pairs_seed=config.schedule.seed if config.views.mixes else None,
        objective=PlainObjective(config.loss),
        identity={
            "shards": fingerprint(shards),
            "set of labels": label_fingerprint(shards),
            "views": config.views.model_dump_json(),
            "loss": config.loss.model_dump_json(),
        },
        trains_both_heads=False,
        config=config,
    )


def number_of_classes(config: FinetuneConfig, classes: ClassList | None) -> int | None:
    """C of the head: the recipe's or, if it names none, that of the labels' class list; None if neither is known."""
    return config.num_classes or (len(classes.ids) if classes is not None else None)


def unknown_number_of_classes() -> ConfigError:
    """What to say where there is no number of classes."""
    return ConfigError(
        "the number of classes is not known",
        where="num_classes",
        fix="set num_classes, or give a class list (shards.class_list, or classes.txt beside the shards)",
    )


def require_as_many(num_classes: int, classes: ClassList | None) -> None:
    """Check that the head has as many classes as the labels' class list.

    Raises:
        ConfigError: it has not.
    """
    if classes is not None and len(classes.ids) != num_classes:
        raise ConfigError(
            "the number of classes is not the length of the labels' class list",
            where="num_classes",
            found=f"{num_classes}, and {len(classes.ids)} classes in {classes.name}",
            fix="omit num_classes, or name the class list of these labels (shards.class_list)",
        )
