"""``head prototypes``: a head of the centres that k-means finds among a teacher's embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head_file import require_replaceable, save_head
from tinyvit_kd.models.prototypes import OF_PROTOTYPES, prototype_head
from tinyvit_kd.runs.embeddings import embedding_teacher, sample_embeddings
from tinyvit_kd.runs.store_agreement import check_views
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.storage.copies import local_path


def prototypes(
    config: DumpConfig,
    job: Job,
    output: Path | None,
    count: int,
    samples: int,
    temperature: float,
    seed: int,
    centers: bool = True,
) -> tuple[str, dict[str, Any]]:
    """Cluster a teacher's embeddings of a sample of a recipe's images, and write the centres as a head.

    Args:
        config: names the teacher, the shards and the views, of which each sample is shown one.
        output: a ``.safetensors`` file; None: ``teacher.head`` of the recipe.
        count: C, of prototypes.
        samples: images that are embedded.
        temperature: τ; the head's scale is 1 / τ.
        seed: of views and first centres.
        centers: whether the mean embedding is subtracted first.

    Returns:
        what was written, for people, and as plain data.

    Raises:
        ConfigError: nothing says where to write, or there are fewer images than prototypes.
        CheckpointError: the backbone cannot be opened, or the file is another one than a head of prototypes.
    """
    path = _output(config, output)
    check_views(config.views, job)
    with saying("building the teacher"):
        teacher = embedding_teacher(config, job)
    embeddings = sample_embeddings(config, teacher, samples, seed, job)
    with saying("clustering embeddings"):
        made = prototype_head(embeddings, count, temperature, seed, centers=centers)
    centered = embeddings if made.center is None else embeddings - made.center
    best = (centered @ made.weight.T).argmax(dim=1).bincount(minlength=count)
    told = {
        "kind": OF_PROTOTYPES,
        "teacher": teacher.facts.name,
        "weights_hash": teacher.weights_hash,
        "shards": config.shards.path,
        "samples": len(embeddings),
        "temperature": temperature,
        "centered": centers,
        "seed": seed,
    }
    head = replace(made, made_from=told)
    save_head(path, head)
    text = (
        f"{path}: {count:,} prototypes of {len(embeddings):,} images, {head.weight.shape[1]} wide, temperature "
        f"{temperature:g}, by {teacher.facts.name}; {int(best.min()):,} to {int(best.max()):,} images nearest to each"
    )
    figures = {"prototypes": count, "samples": len(embeddings), "width": head.weight.shape[1]}
    return text, {"head": str(path), **figures, "temperature": temperature, "hash": head.hash}


def _output(config: DumpConfig, output: Path | None) -> Path:
    named = config.teacher.head
    if output is None and named is not None:
        output = local_path(named)
    if output is None:
        raise ConfigError(
            "nothing says where the head is to be written",
            where="teacher.head" if named is None else f"teacher.head: {named}",
            expected="the path of a .safetensors file on this machine",
            fix="name it in the recipe, which the dump then takes it from, or give --output",
        )
    if output.suffix != ".safetensors":
        raise ConfigError("a head is written as a .safetensors file", where="--output, teacher.head", found=str(output))
    require_replaceable(output, OF_PROTOTYPES)
    return output
