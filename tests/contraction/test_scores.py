"""Scores of a batch: holes count nowhere, mixed views have two labels, and samples' views are averaged first."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch

from tinyvit_kd.contraction.scores import losses_of, score_of, scored_logits, sums_by_sample
from tinyvit_kd.errors import StoreError
from tinyvit_kd.training.batch import Batch, MixedLabels
from tinyvit_kd.training.targets import Targets

CLASSES, VIEWS = 6, 2


def logits_for(*best: int) -> torch.Tensor:
    """Logits whose best classes are these."""
    logits = torch.randn(len(best), CLASSES, generator=torch.Generator().manual_seed(0))
    return logits + 10 * torch.nn.functional.one_hot(torch.tensor(best), CLASSES)


def targets_for(*best: int) -> Targets:
    """Two stored classes of each view, the more probable one of which is given."""
    top = torch.tensor(best)
    indices, order = torch.stack([top, (top + 1) % CLASSES], dim=1).sort(dim=1)
    probs = torch.tensor([0.6, 0.3]).expand(len(best), 2).gather(1, order)
    return Targets(indices, probs, torch.full((len(best),), 0.1))


def batch_of(weights: list[float], labels: list[int] | None, mixed: MixedLabels | None = None) -> Batch:
    views = torch.zeros(len(weights), 3, 2, 2, dtype=torch.uint8)
    return Batch(views, torch.tensor(weights), None if labels is None else torch.tensor(labels), None, mixed)


def test_the_loss_is_the_cross_entropy_to_the_whole_distribution() -> None:
    logits, targets = logits_for(1, 5), targets_for(1, 2)
    sums = sums_by_sample(logits, batch_of([1, 1], None), targets, 1)
    dense = torch.full((2, CLASSES), 0.1 / 4, dtype=torch.float64).scatter(1, targets.indices, targets.probs.double())
    expected = -(dense * logits.double().log_softmax(dim=1)).sum(dim=1)
    assert torch.allclose(sums[:, 0, 0], expected, atol=1e-5)
    assert sums[:, 1].tolist() == [[100, 1], [0, 1]]


def test_holes_count_nowhere_whatever_the_network_says_of_them() -> None:
    logits = logits_for(1, 1, 2, 2)
    logits[1] = math.nan
    sums = sums_by_sample(logits, batch_of([1, 0, 0, 0], [1, 1, 2, 2]), targets_for(1, 1, 2, 2), VIEWS)
    assert sums[:, :, 1].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert sums[0, 1:, 0].tolist() == [100, 100]
    assert not sums[1].any()
    assert torch.isfinite(sums).all()


def test_views_without_a_label_count_for_the_teacher_alone() -> None:
    sums = sums_by_sample(logits_for(1, 2), batch_of([1, 1], [-1, 3]), targets_for(1, 2), 1)
    assert sums[:, 2].tolist() == [[0, 0], [0, 1]]
    assert sums[:, 1].tolist() == [[100, 1], [100, 1]]


def test_a_mixed_view_has_two_labels_each_with_its_share() -> None:
    mixed = MixedLabels(torch.tensor([4, 4, -1, 3]), torch.tensor([0.75, 0.25, 0.5, 1.0]))
    sums = sums_by_sample(logits_for(1, 4, 1, 3), batch_of([1] * 4, [1, 1, 1, 3], mixed), targets_for(0, 0, 0, 0), 1)
    assert sums[:, 2].tolist() == [[75, 1], [75, 1], [0, 0], [100, 1]]


def test_views_are_averaged_before_errors_are_told() -> None:
    """A hundred equal views of each sample tell no more than one."""
    sums = torch.zeros(4, 3, 2, dtype=torch.float64)
    values = torch.tensor([1.0, 2.0, 4.0, 5.0], dtype=torch.float64)
    views = torch.tensor([1.0, 100.0, 7.0, 2.0], dtype=torch.float64)
    sums[:, 0] = torch.stack([values * views, views], dim=1)
    sums[:, 1] = torch.tensor([50.0, 1.0])
    score = score_of(sums, 7, 3, "store")
    assert score.cross_entropy == pytest.approx(3)
    assert score.errors["cross_entropy"] == pytest.approx(np.std(values.numpy(), ddof=1) / 2)
    assert (score.agreement, score.errors["agreement"], score.top1) == (50, 0, None)
    assert set(score.errors) == {"cross_entropy", "agreement"}
    assert (score.samples, score.steps, score.seed) == (4, 7, 3)


def test_the_losses_of_samples_are_means_over_their_views_and_holes_have_none() -> None:
    sums = torch.zeros(4, 3, 2, dtype=torch.float64)
    sums[:, 0] = torch.tensor([[6.0, 3.0], [0.0, 0.0], [5.0, 1.0], [0.0, 2.0]])
    sums[:, 1] = torch.tensor([50.0, 1.0])
    losses = losses_of(sums)
    assert losses.dtype == np.float32
    assert np.array_equal(losses, [2, math.nan, 5, 0], equal_nan=True)
    assert score_of(sums, 1, 0, "store").cross_entropy == pytest.approx(np.nanmean(losses))


def test_too_few_samples_are_refused() -> None:
    sums = torch.zeros(3, 3, 2, dtype=torch.float64)
    sums[0] = 1
    with pytest.raises(StoreError, match="1 of 3; the others are holes") as told:
        score_of(sums, 1, 0, "/data/store")
    assert "proxy.held_out" in told.value.fix


def test_two_heads_answer_by_the_mean_of_their_softmax() -> None:
    kwargs = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    network = timm.create_model("deit_tiny_distilled_patch16_224", num_classes=CLASSES, **kwargs).eval()
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        for head in (network.head, network.head_dist):
            head.weight.normal_(std=3)
        answers = scored_logits(network, images).softmax(dim=1)
        network.set_distilled_training(True)
        both = network.train()(images)
    assert torch.allclose(answers, torch.stack([each.softmax(dim=1) for each in both]).mean(dim=0), atol=1e-6)
    assert not torch.allclose(answers, torch.stack(both).mean(dim=0).softmax(dim=1), atol=1e-3)
