"""Embeddings of a sample of a recipe's images, by the backbone of its teacher."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from tinyvit_kd.batches.dump_batches import DumpBatches
from tinyvit_kd.batches.dump_tasks import Group, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.shards_ahead import groups_with_shards
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.backbones import open_backbone
from tinyvit_kd.models.called import answered
from tinyvit_kd.models.embedding_head import called, embedding_width, keeps_output, without_classifier
from tinyvit_kd.models.teacher import Teacher, teacher_facts
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import note, progress_bar
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.store.records import RecordStatus


def embedding_teacher(config: DumpConfig, job: Job) -> Teacher:
    """The backbone of a recipe's teacher, which answers with embeddings [B, D]; the recipe's head is not read.

    Raises:
        ConfigError, CheckpointError: as of ``models.backbones.open_backbone``; or it gives no embedding.
    """
    teacher = config.teacher
    backbone = open_backbone(teacher)

    def keeps(network: torch.nn.Module) -> bool:
        return keeps_output(network, teacher, None, prefers_output=False)

    network = backbone.open(keeps)
    network = without_classifier(network, keeps(network))
    facts = teacher_facts(teacher, network, backbone.facts_of(network))
    width = embedding_width(network, facts.image_size, called(network, teacher))
    if teacher.call is not None and (found := answered(network)) is not None and found.heads:
        note(
            f"embeddings are the {width:,} numbers that {teacher.call} returns, which are those of its layer "
            f"{' and '.join(found.heads)}: if they are logits of classes, have the function return what lies below them"
        )
    runtime = config.runtime
    compiler = compiler_of(runtime, job)
    return Teacher(network, facts, job.device, runtime.precision, runtime.channels_last, compiler)


def sample_embeddings(config: DumpConfig, teacher: Teacher, samples: int, seed: int, job: Job) -> torch.Tensor:
    """Embeddings of one view, by the recipe's spec without mixing, of each of some samples.

    Args:
        teacher: of ``embedding_teacher``.
        samples: how many, at most; each shard gives its share, from its beginning.
        seed: of the views.

    Returns:
        float32 [N, D], on the host, in the order of the shards; images that cannot be decoded are left out.
    """
    shards = open_shards(config.shards, job, config.runtime)
    spec = config.views.model_copy(update={"mixup": 0.0, "cutmix": 0.0})
    views = SampleViews(shards.reader(), spec, seed)
    maker = DumpBatches(views, config.on_bad_image, config.batch_size)
    groups = list(_shares(shards, samples))
    total = sum(group.samples for group in groups)
    teacher.warm_up(config.batch_size, spec.size)
    found: list[torch.Tensor] = []
    with (
        groups_with_shards(shards, iter(groups), config.runtime, config.batch_size) as ahead,
        loading(maker, tasks_of(ahead, config.batch_size), config.runtime, job.device) as batches,
        progress_bar(job, total, "view", label="embeddings") as bar,
    ):
        for batch in batches:
            raise_if_stopped()
            teacher.compiler.begin_step()
            with teacher.compiler.without_gradients():
                answers = teacher(batch.views).cpu()
            found.append(answers[: len(batch.status)][torch.from_numpy(batch.status == RecordStatus.VALID)])
            bar.update(len(batch.status))
    return torch.cat(found)


def _shares(shards: ShardSet, samples: int) -> Iterator[Group]:
    lengths = np.asarray(shards.lengths)
    wanted = np.minimum(lengths, -(-samples * lengths // max(1, lengths.sum())))
    left = samples
    for shard, count in enumerate(wanted.tolist()):
        if take := min(count, left):
            yield Group(shard, (0,), take)
            left -= take
