"""What the benchmark of contraction says of its networks: figures, an order's agreement with another, and tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy.stats import kendalltau

from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape


def described(shape: Shape, costs: Costs, rate: float) -> dict[str, Any]:
    """A shape, for the result."""
    return {
        "shape": shape.name,
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
        "images_per_second": round(rate),
    }


def mean(values: Sequence[float]) -> float:
    """The mean, to thousandths."""
    return round(statistics.mean(values), 3)


def tau(losses: Sequence[float], top1: Sequence[float]) -> float:
    """Kendall's τ-b between an order by loss, the smaller the better, and one by top-1; 0 where either has none."""
    found = float(kendalltau([-loss for loss in losses], top1).statistic)
    return 0.0 if math.isnan(found) else round(found, 3)


def tables(result: dict[str, Any]) -> list[str]:
    """Students with their top-1, and candidates with their scores, as Markdown."""
    lines = ["| student | parameters | images/s | top-1, mean | seeds |", "|---|---|---|---|---|"]
    for name, values in result["top1"].items():
        shapes = result["shapes"][name]
        parameters = ", ".join(f"{each['parameters']:,}" for each in shapes)
        rates = ", ".join(f"{each['images_per_second']:,}" for each in shapes)
        each = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {parameters} | {rates} | {mean(values):.2f} | {each} |")
    others = ["| candidate | top-1 | cross-entropy, inherited | fresh |", "|---|---|---|---|"]
    for each in sorted(result["candidates"], key=lambda each: -float(each["top1"])):
        others.append(f"| {each['shape']} | {each['top1']:.2f} | {each['inherited']:.4f} | {each['fresh']:.4f} |")
    others.append(f"| Kendall's τ | | {result['kendall_tau_inherited']:.2f} | {result['kendall_tau_fresh']:.2f} |")
    return ["\n".join(lines), "\n".join(others)]
