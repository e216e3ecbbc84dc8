"""Accuracy counts every sample once and leaves holes out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.utils import accuracy

from tinyvit_kd.training.evaluation_metrics import METRICS, ScoredBatch, class_counts, mean_per_class, topk_correct


def test_the_counts_are_timms_percentages() -> None:
    logits = torch.randn(200, 10)
    labels = torch.randint(0, 10, (200,))
    correct = topk_correct(logits, labels, torch.ones(200), (1, 3, 5))
    expected = accuracy(logits, labels, topk=(1, 3, 5))
    assert [each.sum().item() / 2 for each in correct] == pytest.approx([percent.item() for percent in expected])


def test_holes_count_for_nothing() -> None:
    logits = torch.eye(4)
    labels = torch.tensor([0, 1, 2, -1])
    top1, top2 = topk_correct(logits, labels, torch.tensor([1.0, 0.0, 1.0, 0.0]), (1, 2))
    assert (top1.tolist(), top2.tolist()) == ([1, 0, 1, 0], [1, 0, 1, 0])


def test_a_k_above_the_number_of_classes_means_all_classes() -> None:
    top1, top5 = topk_correct(torch.tensor([[0.1, 0.9], [0.2, 0.8]]), torch.tensor([0, 1]), torch.ones(2), (1, 5))
    assert (top1.sum().item(), top5.sum().item()) == (1, 2)


def numpy_mean_per_class(best: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The same, one class at a time."""
    rows = [np.flatnonzero((labels == each) & (weights > 0)) for each in range(labels.max() + 1)]
    return float(np.mean([(best[row] == labels[row]).mean() for row in rows if len(row)]))


def test_the_mean_over_classes_equals_numpys_however_samples_are_split() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 9, generator=generator)
    labels = torch.randint(0, 8, (300,), generator=generator) ** 2 // 7  # uneven; no sample has the classes 4, 6 and 8
    weights = (torch.rand(300, generator=generator) > 0.2).float()
    labels[weights == 0] = torch.where(torch.rand(int((weights == 0).sum()), generator=generator) > 0.5, -1, 3)
    counts = class_counts(topk_correct(logits, labels, weights, (1,))[0], labels, weights, 9)
    expected = numpy_mean_per_class(logits.argmax(dim=1).numpy(), labels.numpy(), weights.numpy())
    assert mean_per_class(counts) == pytest.approx(expected, rel=1e-12)
    assert counts[1].sum() == weights.sum()
    batches = zip(*(torch.split(each, 7) for each in (logits, labels, weights)), strict=True)
    summed = sum(class_counts(topk_correct(z, y, w, (1,))[0], y, w, 9) for z, y, w in batches)
    assert isinstance(summed, torch.Tensor)
    assert torch.equal(summed, counts)


def test_the_mean_over_no_classes_is_zero() -> None:
    assert mean_per_class(torch.zeros(2, 3)) == 0


def results(batches: list[ScoredBatch], heads: tuple[str, ...]) -> dict[str, float]:
    """What all metrics say of some batches, read in the order of the table."""
    metrics = [metric(6, heads, torch.device("cpu")) for metric in METRICS]
    for metric in metrics:
        for batch in batches:
            metric.update(batch)
    return {name: value for metric in metrics for name, value in metric.results(metric.sums).items()}


@pytest.mark.parametrize("heads", [(), ("head", "head_dist")], ids=["one head", "two heads"])
def test_every_metric_is_the_same_however_samples_are_split_into_batches(heads: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, *own = torch.randn(1 + len(heads), 50, 6, generator=generator)
    labels = torch.randint(0, 6, (50,), generator=generator)
    labels[::10] = -1
    weights = (torch.rand(50, generator=generator) > 0.2).float() * (labels >= 0)
    by_head = dict(zip(heads, own, strict=True))
    whole = ScoredBatch(scores, by_head, labels, weights)
    split = [
        ScoredBatch(
            scores[start : start + 8],
            {name: logits[start : start + 8] for name, logits in by_head.items()},
            labels[start : start + 8],
            weights[start : start + 8],
        )
        for start in range(0, 50, 8)
    ]
    found = results(split, heads)
    assert found == results([whole], heads)
    counts = ["samples", "left_out", "unlabelled", "undecodable"]
    assert list(found) == ["top1", "top5", "mean_per_class", *(f"top1_{head}" for head in heads), *counts]
    assert found["samples"] + found["left_out"] == 50
    assert found["unlabelled"] == 5
    assert found["undecodable"] == (weights == 0).sum() - 5 > 0


def test_where_nothing_is_scored_all_percentages_are_zero() -> None:
    assert set(results([], ("head", "head_dist")).values()) == {0}
