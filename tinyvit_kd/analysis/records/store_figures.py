"""The figures of a store's sums, section by section, as plain JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from tinyvit_kd.analysis.records.store_blocks import TOP
from tinyvit_kd.analysis.records.store_sums import BINS, CONFIDENCE_BINS, Int64, StoreSums, ViewSums
from tinyvit_kd.store.manifest import Manifest

PERCENTILES = (10, 50, 90)
LEVELS = (1, 5, 10, 25, 50, 100, 200, 500, 1000)  # K whose kept mass is told, besides the store's own
Tree = dict[str, Any]


def spread(sums: StoreSums, name: str, total: float, largest: float = 1.0) -> Tree:
    """Mean, percentiles and histogram of a figure that lies between 0 and ``largest``."""
    records = sums.total.records
    counts = sums.histograms.get(name, np.zeros(BINS, np.int64))
    found = {f"p{each}": largest * percentile(counts, each / 100) if records else None for each in PERCENTILES}
    return {"mean": total / records if records else None, **found, "histogram": counts.tolist()}


def percentile(counts: Int64, fraction: float) -> float:
    """Where a fraction of what a histogram counts lies below, as a share of its range; linear within a bin."""
    target = fraction * counts.sum()
    upto = np.cumsum(counts)
    place = int(np.searchsorted(upto, target))
    inside = counts[place] or 1
    return float((place + (target - (upto[place] - counts[place])) / inside) / len(counts))


def agreement(sums: ViewSums, topk: int) -> Tree | None:
    """How often the teacher is right; None where no label is known."""
    if not sums.labelled:
        return None
    return {
        "top1": sums.right / sums.labelled,
        "top5": sums.right_top5 / sums.labelled if topk >= TOP else None,
        "label_probability": sums.label_probability / sums.labelled,
        "views": sums.labelled,
    }


def of_view(view: int, sums: ViewSums, topk: int) -> Tree:
    """The figures of one view number."""
    records = max(sums.records, 1)
    means = {name: asdict(sums)[name] / records for name in ("confidence", "entropy", "residual")}
    return {"view": view, "records": sums.records, **means, "agreement": agreement(sums, topk)}


def kept_mass(sums: StoreSums) -> list[Tree]:
    """What the K best classes have together, for several K up to the store's own."""
    topk, records = len(sums.kept), sums.total.records
    levels = sorted({*(each for each in LEVELS if each < topk), topk})
    return [{"k": level, "mass": sums.kept[level - 1] / records if records else None} for level in levels]


def between_views(sums: StoreSums) -> Tree | None:
    """How far views of a sample agree with each other; None where no two views of a shard were read."""
    pairs = sums.pairs
    if not pairs.pairs:
        return None
    divergence = pairs.divergence / pairs.compared if pairs.compared else None
    return {
        "pairs": pairs.pairs,
        "same_best": pairs.same_best / pairs.pairs,
        "compared_pairs": pairs.compared,
        "js_divergence": divergence,
        "largest_js_divergence": math.log(2),
    }


def calibration(sums: StoreSums) -> Tree | None:
    """How often the teacher is right by how sure it is; None where no label is known."""
    views = sums.calibration[:, 0].sum()
    if not views:
        return None
    bins = [
        {
            "from": place / CONFIDENCE_BINS,
            "to": (place + 1) / CONFIDENCE_BINS,
            "views": int(count),
            "confidence": confidence / count if count else None,
            "top1": right / count if count else None,
        }
        for place, (count, confidence, right) in enumerate(sums.calibration.tolist())
    ]
    error = abs(sums.calibration[:, 1] - sums.calibration[:, 2]).sum() / views
    return {"expected_error": float(error), "bins": bins}


def field_bytes(sums: StoreSums, manifest: Manifest) -> Tree:
    """Bytes per record by field, and of the whole store at that."""
    measured = sums.bytes
    records = max(measured.records, 1)
    fields = [
        {"field": name, "raw": each.raw / records, "packed": each.packed / records}
        for name, each in measured.by_field.items()
    ]
    complete = sum(manifest.shard_lengths) * manifest.views
    per_record = measured.file_bytes / records
    return {
        "measured_blocks": measured.blocks,
        "read_blocks": sums.blocks,
        "read_bytes": sums.block_bytes,
        "per_record": per_record if measured.records else None,
        "complete_store": round(per_record * complete) if measured.records else None,
        "fields": fields,
    }
