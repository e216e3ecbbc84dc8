"""What a verification found, as a table for people and as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.verifying.agreement import Agreement
from tinyvit_kd.analysis.verifying.verification import RecordPlace, Verification
from tinyvit_kd.runtime.wording import counted, printable, table
from tinyvit_kd.store.manifest import Manifest

Tree = dict[str, Any]
Float64 = npt.NDArray[np.float64]
KEYS = {  # of the lines of the table, for machines
    "weights": "weights",
    "input and classes": "input_and_classes",
    "views": "views",
    "top-1": "top1",
    "kept classes": "kept_classes",
    "largest |Δp|": "delta_p",
    "largest |Δ| of the rest": "delta_rest",
    "mean KL": "mean_kl",
}
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


def view_checks(found: Verification) -> list[Check]:
    """Whether the views are those that the teacher saw."""
    good = len(found.compared)
    holes = f", {counted(found.holes, 'hole')} too" if found.holes else ""
    values = {"same": good, "holes": found.holes, "different": len(found.different), "unread": len(found.unread)}
    passed = not (found.different or found.unread)
    return [Check("views", f"{good:,} of {found.asked - found.holes:,} the same{holes}", "", passed, values)]


def answer_checks(found: Verification) -> list[Check]:
    """Whether the answers agree; nothing where none was compared."""
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


def table_of(checks: Iterable[Check]) -> str:
    """The checks, one a line."""
    rows = [["", "found", "bound", ""]]
    rows += [[check.name, check.found, check.bound, "ok" if check.passed else "WRONG"] for check in checks]
    return table(rows)


def faults_of(found: Verification) -> list[tuple[RecordPlace, str]]:
    """The records that are not as they should be, and why."""
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


def fault_lines(manifest: Manifest, found: Verification) -> list[str]:
    """The first of these records, for people."""
    faults = faults_of(found)
    lines = [
        printable(f"  {manifest.shard_names[place.shard]}:{place.number}, view {place.view}: {reason}")
        for place, reason in faults[:LISTED]
    ]
    return [*lines, *([f"  … and {len(faults) - LISTED:,} more"] if len(faults) > LISTED else [])]


def place_of(manifest: Manifest, place: RecordPlace, reason: str) -> Tree:
    """One of these records, for machines."""
    shard = manifest.shard_names[place.shard]
    return {"shard": shard, "index": place.number, "view": place.view, "reason": reason}


def verdict(passed: bool) -> str:
    """The last line."""
    return "the records are this teacher's" if passed else "the records are NOT what this teacher says of these images"
