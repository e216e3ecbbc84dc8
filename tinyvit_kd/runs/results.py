"""``results.json`` of a finished run or dump: its figures, and all that they depend on."""

from __future__ import annotations

import platform
from typing import Any

from tinyvit_kd.config.recipes import DumpConfig, TrainingConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.modelfile import ModelCard, hash_weights
from tinyvit_kd.runs.attempts import Attempts
from tinyvit_kd.runs.open_shards import fingerprint
from tinyvit_kd.runs.run_files import RESULTS
from tinyvit_kd.runs.training_data import TrainingData
from tinyvit_kd.runs.work_folder import dump_path
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.machine import machine, versions
from tinyvit_kd.store.manifest import TeacherEntry
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState

FORMAT = 1


def write_student_results(
    config: TrainingConfig,
    data: TrainingData,
    scored_on: ShardSet | None,
    run: Run,
    state: TrainState,
    card: ModelCard,
    figures: dict[str, float],
    attempts: Attempts,
) -> None:
    """Write the results of a finished run to its folder, from rank 0; every process must call.

    Args:
        scored_on: the labelled shards of the evaluation; None if there was none.
        figures: what the run's summary says.
        attempts: of rank 0.
    """
    hosts = run.job.gather(platform.node())
    if not run.job.is_main:
        return
    recipe = config.model_dump(mode="json")
    shards = {"shards": _shards(data.shards, recipe["shards"]["path"])}
    if scored_on is not None and config.eval is not None:
        shards["eval"] = _shards(scored_on, config.eval.shards.path)
    stores = data.logit_stores
    content = {
        "format": FORMAT,
        "stage": recipe["stage"],
        "figures": figures,
        "recipe": recipe,
        "identity": run.identity,
        "data": shards,
        "stores": [_store(store) for store in stores],
        "teacher": [_teacher(store.manifest.teacher) for store in stores],
        "student": {
            "parameters": sum(parameter.numel() for parameter in state.model.parameters()),
            "num_classes": card.num_classes,
            "image_size": card.image_size,
            "weights_hash": hash_weights(state.scored.state_dict()),
        },
        **_surroundings(run.job, hosts, attempts),
    }
    write_json(run.folder / RESULTS, content, config.runtime.fsync)


def write_dump_results(
    config: DumpConfig,
    part: tuple[int, int],
    store: LogitStore,
    shards: ShardSet,
    figures: dict[str, float],
    job: Job,
    attempts: Attempts,
) -> None:
    """Write the results of a finished dump beside its store, from rank 0; every process must call.

    Where nothing was left to make, those of the dump that made it are kept.

    Args:
        part: (i, n), the i-th of n parts of the shards.
        figures: of the last attempt.
        attempts: of rank 0.
    """
    hosts = job.gather(platform.node())
    path = dump_path(config, RESULTS, part)
    if not job.is_main or (not figures["views"] and path.is_file()):
        return
    manifest = store.manifest
    number, parts = part
    lengths = manifest.shard_lengths[number - 1 :: parts]
    content = {
        "format": FORMAT,
        "stage": config.stage,
        "part": list(part),
        "figures": figures
        | {
            "blocks": manifest.views * sum(length > 0 for length in lengths),
            "records": manifest.views * sum(lengths),
        },
        "recipe": config.model_dump(mode="json"),
        "identity": {"store": manifest.hash, "shards": fingerprint(shards)},
        "data": {"shards": _shards(shards, config.shards.path)},
        "stores": [_store(store)],
        "teacher": [_teacher(manifest.teacher)],
        "student": None,
        **_surroundings(job, hosts, attempts),
    }
    write_json(path, content, config.runtime.fsync)


def _surroundings(job: Job, hosts: list[str], attempts: Attempts) -> dict[str, Any]:
    return {
        "versions": versions(),
        "machine": {**machine(), "device": job.device.type, "hosts": sorted(set(hosts))},
        "world_size": job.world_size,
        **attempts.facts(),
    }


def _shards(shards: ShardSet, path: str) -> dict[str, Any]:
    return {
        "name": shards.name,
        "path": path,
        "split": shards.split,
        "shards": len(shards.names),
        "samples": shards.total,
        "hash": fingerprint(shards),
    }


def _store(store: LogitStore) -> dict[str, Any]:
    manifest = store.manifest
    return {
        "path": store.where,
        "hash": manifest.hash,
        "views": manifest.views,
        "topk": manifest.topk,
        "num_classes": manifest.num_classes,
        "class_list": manifest.class_list,
        "encoding": manifest.encoding,
        "seed": manifest.seed,
        "view_spec_hash": manifest.view_spec_hash,
        "shard_set": manifest.shard_set,
    }


def _teacher(teacher: TeacherEntry) -> dict[str, Any]:
    return teacher.model_dump(mode="json")
