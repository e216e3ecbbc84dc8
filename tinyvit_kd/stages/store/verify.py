"""``store verify``: a random sample of records computed anew by their teacher, here, and compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.agreement import Agreement
from tinyvit_kd.analysis.replayed_views import ReplayedViews
from tinyvit_kd.analysis.store_labels import open_stored_shards
from tinyvit_kd.analysis.verification import RecordPlace, Verification, choose_records, verify_records
from tinyvit_kd.config.load import apply_override, read_yaml, validate
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.teacher import Teacher, build_teacher
from tinyvit_kd.runs.new_store import teacher_classes
from tinyvit_kd.runs.store_agreement import require_same_views
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.wording import counted, printable, table
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore

Tree = dict[str, Any]
Float64 = npt.NDArray[np.float64]
LISTED = 10  # records of a fault that are named; the others are counted


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was compared.
        found: for people.
        bound: what it may be, for people; empty where it has to be the same.
        passed: whether it is.
        values: the same figures for machines.
    """

    name: str
    found: str
    bound: str
    passed: bool
    values: Tree


def read_recipe(
    path: Path, overrides: Iterable[str], store_path: str | PathLike[str], shards: str | None
) -> DumpConfig:
    """A dump's recipe for this store, from that of a dump or from a teacher's section alone.

    Views, K, encoding and seed are the store's, whatever the recipe says.

    Args:
        shards: path of the shards, in place of the recipe's; None: the recipe's.

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
    if shards is not None:
        given = tree.get("shards")
        tree["shards"] = (given if isinstance(given, dict) else {}) | {"path": shards}
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
        teacher = build_teacher(config.teacher, job.device, precision, config.runtime.channels_last)
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
    checks = [*_teacher_checks(config, manifest, teacher), *_view_checks(found), *_answer_checks(found)]
    head = (
        f"{store.where}: {counted(found.asked, 'record')} of {counted(len({each[:2] for each in places}), 'block')}; "
        f"dumped in {manifest.teacher.precision}, {manifest.encoding}; computed here in {precision} on "
        f"{job.device.type}"
    )
    passed = all(check.passed for check in checks)
    result = {
        "store": store.where,
        "records": found.asked,
        "compared": len(found.compared),
        "precision": {"store": manifest.teacher.precision, "here": precision},
        "encoding": manifest.encoding,
        "device": job.device.type,
        "checks": {check.name: {"passed": check.passed, **check.values} for check in checks},
        "passed": passed,
        "wrong": [_place(manifest, *each) for each in _faults(found)],
    }
    return (
        "\n".join([printable(head), _table(checks), *_fault_lines(manifest, found), _verdict(passed)]),
        result,
        passed,
    )


def _open_shards(store: LogitStore, config: DumpConfig) -> Any:
    asked = config.shards
    options = asked.model_dump(include={"class_list", "label_key", "first_label"})
    options |= {"cache_dir": asked.cache_dir, "index_dir": asked.index_dir}
    return open_stored_shards(store, asked.path, asked.split, **options)


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
    }
    other = [f"{name} {stored} is {here} here" for name, (stored, here) in inputs.items() if stored != here]
    found = teacher.weights_hash if same else f"{teacher.weights_hash}, not {entry.weights_hash}"
    return [
        Check("weights", found, "", same, {"store": entry.weights_hash, "here": teacher.weights_hash}),
        Check("input and classes", "; ".join(other) or "the same", "", not other, {"different": other}),
    ]


def _view_checks(found: Verification) -> list[Check]:
    good = len(found.compared)
    holes = f", {counted(found.holes, 'hole')} too" if found.holes else ""
    values = {"same": good, "holes": found.holes, "different": len(found.different), "unread": len(found.unread)}
    passed = not (found.different or found.unread)
    return [Check("views", f"{good:,} of {found.asked - found.holes:,} the same{holes}", "", passed, values)]


def _answer_checks(found: Verification) -> list[Check]:
    answers = found.agreement
    if answers is None:
        return []
    count, ties = len(answers.same_best), int(answers.near_tie.sum())
    same = int(answers.same_best.sum())
    told = f"{same:,} of {count:,} the same" + (f", {counted(ties, 'near tie')}" if ties else "")
    kept = int((~answers.missing).sum())
    return [
        Check("top-1", told, "", same + ties == count, {"same": same, "near_ties": ties, "records": count}),
        Check("kept classes", f"the best in {kept:,} of {count:,}", "", kept == count, {"same": kept}),
        _bounded("largest |Δp|", answers.delta, answers.delta_bound, answers.delta_share),
        _bounded("largest |Δ| of the rest", answers.rest, answers.rest_bound, answers.rest / answers.rest_bound),
        _mean_divergence(answers),
    ]


def _bounded(name: str, found: Float64, bound: Float64, share: Float64) -> Check:
    """A check of differences against bounds of their own.

    Args:
        found, bound: the largest difference of each record, and its bound.
        share: of the bound that the difference nearest to its own takes.
    """
    worst, over = int(found.argmax()), int((share > 1).sum())
    above, nearest = f"{counted(over, 'record')} above the bound", f"the nearest takes {share.max():.0%} of its bound"
    told = f"{found[worst]:.3g}; {above if over else nearest}"
    values = {"largest": float(found[worst]), "bound": float(bound[worst]), "share": float(share.max()), "above": over}
    return Check(name, told, f"{bound[worst]:.3g}", not over, values)


def _mean_divergence(answers: Agreement) -> Check:
    mean, limit = float(answers.divergence.mean()), answers.divergence_bound
    by = {"encoding": float(answers.by_encoding.mean()), "rounding": float(answers.by_rounding.mean())}
    expected = f"expected {by['encoding']:.2g} of the encoding, {by['rounding']:.2g} of rounding"
    values = {"mean": mean, "bound": limit, "expected": by, "largest": float(answers.divergence.max())}
    return Check("mean KL", f"{mean:.3g}; {expected}", f"{limit:.3g}", mean <= limit, values)


def _table(checks: Iterable[Check]) -> str:
    rows = [["", "found", "bound", ""]]
    rows += [[check.name, check.found, check.bound, "ok" if check.passed else "WRONG"] for check in checks]
    return table(rows)


def _faults(found: Verification) -> list[tuple[RecordPlace, str]]:
    faults = [*found.unread, *found.different]
    if found.agreement is not None:
        reasons = _reasons(found.agreement)
        faults += [(place, reason) for place, reason in zip(found.compared, reasons, strict=True) if reason]
    return faults


def _reasons(answers: Agreement) -> list[str]:
    """What is wrong with each record; empty where nothing is."""
    other_best = ~answers.same_best & ~answers.near_tie
    reasons = []
    for row in range(len(other_best)):
        parts = ["another best class"] if other_best[row] else []
        parts += ["a better class was not kept"] if answers.missing[row] else []
        parts += ["|Δp| above its bound"] if answers.delta_share[row] > 1 else []
        parts += ["|Δ| of the rest above its bound"] if answers.rest[row] > answers.rest_bound[row] else []
        reasons.append(", ".join(parts))
    return reasons


def _fault_lines(manifest: Manifest, found: Verification) -> list[str]:
    faults = _faults(found)
    lines = [
        printable(f"  {manifest.shard_names[place.shard]}:{place.number}, view {place.view}: {reason}")
        for place, reason in faults[:LISTED]
    ]
    return [*lines, *([f"  … and {len(faults) - LISTED:,} more"] if len(faults) > LISTED else [])]


def _place(manifest: Manifest, place: RecordPlace, reason: str) -> Tree:
    shard = manifest.shard_names[place.shard]
    return {"shard": shard, "index": place.number, "view": place.view, "reason": reason}


def _verdict(passed: bool) -> str:
    return "the records are this teacher's" if passed else "the records are NOT what this teacher says of these images"
