"""``store verify``: a random sample of records computed anew by their teacher, here, and compared."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.records.store_labels import open_stored_shards
from tinyvit_kd.analysis.samples.replayed_views import ReplayedViews
from tinyvit_kd.analysis.verifying.verification import RecordPlace, choose_records, verify_records
from tinyvit_kd.analysis.verifying.verification_text import (
    KEYS,
    Check,
    answer_checks,
    fault_lines,
    faults_of,
    place_of,
    table_of,
    verdict,
    view_checks,
)
from tinyvit_kd.config.load import apply_override, read_yaml, validate
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.teacher import Teacher, build_teacher
from tinyvit_kd.runs.new_store import teacher_classes
from tinyvit_kd.runs.restricted_classes import restricted
from tinyvit_kd.runs.store_agreement import require_same_views
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.wording import counted, printable
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore

Tree = dict[str, Any]


def read_recipe(
    path: Path, overrides: Iterable[str], store_path: str | PathLike[str], shards: Tree | None = None
) -> DumpConfig:
    """A dump's recipe for this store, from that of a dump or from a teacher's section alone.

    Views, K, encoding and seed are the store's, whatever the recipe says.

    Args:
        shards: fields of section ``shards``, in place of the recipe's; None: all are the recipe's.

    Raises:
        StoreError: there is no store.
        ConfigError: the recipe names no teacher, or has mistakes.
    """
    store = LogitStore.open(store_path)
    tree = read_yaml(path)
    if "teacher" not in tree and tree.keys() <= TeacherConfig.model_fields.keys():
        tree = {"teacher": tree}
    for text in overrides:
        apply_override(tree, text)
    if "teacher" not in tree:
        raise ConfigError(
            "the recipe names no teacher",
            where=str(path),
            found=f"a recipe for {tree['stage']}" if isinstance(tree.get("stage"), str) else ", ".join(map(str, tree)),
            expected="a recipe for dump-logits, or its section teacher",
        )
    manifest = store.manifest
    kept = {name: getattr(manifest, name) for name in ("topk", "views", "encoding", "seed")}
    tree |= {"stage": "dump-logits", "views": manifest.view_spec, "store": {"path": store.where, **kept}}
    tree.pop("views_from", None)
    if shards:
        given = tree.get("shards")
        tree["shards"] = (given if isinstance(given, dict) else {}) | shards
    return validate(DumpConfig, tree, str(path))


def verify(
    path: str | PathLike[str], config: DumpConfig, job: Job, samples: int, seed: int, trust_transform: bool
) -> tuple[str, Tree, bool]:
    """Compare a sample of records with what the teacher says now.

    Args:
        config: see ``read_recipe``.
        samples: how many records.
        seed: which.
        trust_transform: whether a transform that the store names may be imported and called.

    Returns:
        a table for people, the same as plain data, and whether all is as it should be.

    Raises:
        StoreError: there is no store, or it has no block.
        ConfigError: the teacher cannot be built, or has other classes than the store's.
        ManifestMismatchError, ShardError: the shards are others or cannot be read.
    """
    store = LogitStore.open(path)
    manifest = store.manifest
    spec = require_same_views(manifest, job, trust_transform, "add --trust-transform")
    shards = _open_shards(store, config)
    precision = resolve_precision(job.device, config.runtime.precision, trains=False)
    with saying("building the teacher"):
        teacher = build_teacher(
            config.teacher, job.device, precision, config.runtime.channels_last, restrict=restricted
        )
    _require_classes(manifest, teacher)
    places = _chosen(store, samples, seed)
    with progress_bar(job, len(places), "record", label="store verify") as bar:
        found = verify_records(
            ReplayedViews(store, shards.reader(), spec),
            teacher,
            places,
            config.batch_size,
            config.runtime.tf32,
            lambda done, _: bar.update(done - bar.n),
        )
    checks = [*_teacher_checks(config, manifest, teacher), *view_checks(found), *answer_checks(found)]
    passed = all(check.passed for check in checks)
    head = (
        f"{store.where}: {counted(found.asked, 'record')} of {counted(len({each[:2] for each in places}), 'block')}; "
        f"dumped in {manifest.teacher.precision}, {manifest.encoding}; computed here in {precision} on "
        f"{job.device.type}"
    )
    text = "\n".join([printable(head), table_of(checks), *fault_lines(manifest, found), verdict(passed)])
    result = {
        "store": store.where,
        "records": found.asked,
        "compared": len(found.compared),
        "precision": {"store": manifest.teacher.precision, "here": precision},
        "encoding": manifest.encoding,
        "device": job.device.type,
        "checks": {KEYS[check.name]: {"passed": check.passed, **check.values} for check in checks},
        "passed": passed,
        "wrong": [place_of(manifest, *each) for each in faults_of(found)],
    }
    return text, result, passed


def _open_shards(store: LogitStore, config: DumpConfig) -> Any:
    asked = config.shards
    labels = asked.model_dump(include={"class_list", "label_key", "first_label"})
    return open_stored_shards(store, asked.path, asked.split, **asked.places, **labels)


def _require_classes(manifest: Manifest, teacher: Teacher) -> None:
    """Refuse a teacher whose answers cannot be compared with the store's.

    Raises:
        ConfigError: it has another number of classes.
    """
    if teacher.facts.num_classes != manifest.num_classes:
        raise ConfigError(
            "this is not the store's teacher: it has another number of classes",
            where="teacher",
            found=f"{teacher.facts.name} with {teacher.facts.num_classes:,} classes",
            expected=f"{manifest.teacher.name} with {manifest.num_classes:,}",
            fix="give the recipe that the store was dumped with",
        )


def _chosen(store: LogitStore, samples: int, seed: int) -> list[RecordPlace]:
    present = list(store.present_blocks(store.missing_blocks()))
    places = choose_records(present, store.manifest.shard_lengths, samples, seed)
    if not places:
        raise ConfigError("the store has no block yet", where=store.where, fix="run dump-logits")
    return places


def _teacher_checks(config: DumpConfig, manifest: Manifest, teacher: Teacher) -> list[Check]:
    entry, facts = manifest.teacher, teacher.facts
    same = entry.weights_hash == teacher.weights_hash
    classes = teacher_classes(config, teacher)
    inputs = {
        "image_size": (entry.image_size, facts.image_size),
        "mean": (entry.mean, tuple(facts.mean)),
        "std": (entry.std, tuple(facts.std)),
        "class list": (manifest.class_list_hash, classes.hash if classes else None),
        "head": (entry.head, facts.head),
        "restriction": (entry.restriction, facts.restriction.hash if facts.restriction else None),
    }
    other = [f"{name} {stored} is {here} here" for name, (stored, here) in inputs.items() if stored != here]
    found = teacher.weights_hash if same else f"{teacher.weights_hash}, not {entry.weights_hash}"
    return [
        Check("weights", found, "", same, {"store": entry.weights_hash, "here": teacher.weights_hash}),
        Check("input and classes", "; ".join(other) or "the same", "", not other, {"different": other}),
    ]
