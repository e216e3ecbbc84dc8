"""What a run measures, in people's words: the title, unit and order of each figure of ``metrics.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.training.evaluation_metrics import COUNTS


@dataclass(frozen=True)
class Figure:
    """How a figure is shown.

    Attributes:
        title: of its chart and of its column.
        unit: behind its axis; empty for a plain number.
        factor: what values are multiplied with.
        only_if_any: left out where it is zero throughout.
        more_is_better: None where neither is.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    only_if_any: bool = False
    more_is_better: bool | None = None


EVAL: dict[str, Figure] = {
    "top1": Figure("Top-1 accuracy", "%", more_is_better=True),
    "top5": Figure("Top-5 accuracy", "%", more_is_better=True),
    "mean_per_class": Figure("Mean per-class accuracy", "%", more_is_better=True),
    "raw_top1": Figure("Top-1 accuracy of raw weights", "%", more_is_better=True),
    "raw_top5": Figure("Top-5 accuracy of raw weights", "%", more_is_better=True),
    "raw_mean_per_class": Figure("Mean per-class accuracy of raw weights", "%", more_is_better=True),
    "top1_head": Figure("Top-1 accuracy of the label head", "%", more_is_better=True),
    "top1_head_dist": Figure("Top-1 accuracy of the distillation head", "%", more_is_better=True),
    "top1_mean_of_logits": Figure("Top-1 accuracy by the mean of both heads' logits", "%", more_is_better=True),
}
TRAIN: dict[str, Figure] = {
    "loss": Figure("Training loss"),
    "teacher_loss": Figure("Loss against the teacher"),
    "label_loss": Figure("Loss against labels"),
    "agreement": Figure("Agreement with the teacher in training", "%", 100, more_is_better=True),
    "accuracy": Figure("Accuracy in training", "%", 100, more_is_better=True),
    "lr": Figure("Learning rate"),
    "grad_norm": Figure("Gradient norm"),
    "images_per_second": Figure("Throughput", "images/s", more_is_better=True),
    "step_seconds": Figure("Time per step", "s"),
    "data_wait": Figure("Time spent waiting for data", "%", 100),
    "holes": Figure("Views without an image", "%", 100, only_if_any=True),
    "unlabelled": Figure("Views without a label", "%", 100, only_if_any=True),
    "skipped_steps": Figure("Steps skipped so far", only_if_any=True),
}
KNOWN = {"eval": EVAL, "train": TRAIN}


def figure(kind: str, name: str) -> Figure:
    """How a figure of one kind of line is shown; one that nobody has described goes by its name."""
    return KNOWN.get(kind, {}).get(name) or Figure(name.replace("_", " ") if kind == "train" else f"{kind}: {name}")


def order(kind: str, name: str) -> tuple[int, int, str]:
    """Sorts figures: evaluations first, then training, each in the order of its table, unknown ones last."""
    names = list(KNOWN.get(kind, {}))
    return list(KNOWN).index(kind) if kind in KNOWN else 2, names.index(name) if name in names else len(names), name


def is_count(name: str) -> bool:
    """Whether a figure only says how many samples were scored, which is no curve."""
    return name.startswith(COUNTS)
