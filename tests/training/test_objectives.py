"""Objectives equal dense versions of DeiT's and TinyViT's losses."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch.nn import functional as F

from tests.training.test_loss import recover, stored
from tinyvit_kd.config.training import DistillLossConfig, PlainLossConfig
from tinyvit_kd.training.batch import Batch, MixedLabels, SparseTargets
from tinyvit_kd.training.loss import TEACHER_LOSSES
from tinyvit_kd.training.objectives import DistillObjective, PlainObjective

CLASSES = 11
SIZE = 6


def config(**fields: Any) -> DistillLossConfig:
    return DistillLossConfig.model_validate(fields)


def batch(mixed: bool = False, weights: torch.Tensor | None = None) -> Batch:
    """Six samples; labels may be mixed with those of the flipped batch, as timm's Mixup does."""
    _, indices, probs, residual = stored(SIZE, CLASSES, 4, 5)
    labels = torch.tensor([0, 3, 10, 7, 7, 2])
    lam = torch.tensor([0.3, 0.8, 0.5, 0.5, 0.8, 0.3])
    ones = torch.ones(SIZE) if weights is None else weights
    views = torch.zeros(SIZE, 3, 2, 2, dtype=torch.uint8)
    targets = SparseTargets(indices, probs, residual)
    return Batch(views, ones, labels, targets, MixedLabels(labels.flip(0), lam) if mixed else None)


def logits(seed: int) -> torch.Tensor:
    return torch.randn(SIZE, CLASSES, generator=torch.Generator().manual_seed(seed)) * 2


def teacher_top1(whole: Batch) -> torch.Tensor:
    assert whole.targets is not None
    return recover(whole.targets.indices, whole.targets.probs, CLASSES).argmax(dim=1)


def label_loss(class_logits: torch.Tensor, whole: Batch, smoothing: float = 0.1) -> torch.Tensor:
    assert whole.labels is not None
    if whole.mixed is None:
        plain: torch.Tensor = LabelSmoothingCrossEntropy(smoothing)(class_logits, whole.labels)
        return plain
    targets = mixup_target(whole.labels, CLASSES, whole.mixed.lam.unsqueeze(1), smoothing)
    mixed: torch.Tensor = SoftTargetCrossEntropy()(class_logits, targets)
    return mixed


@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "mixed labels"])
def test_the_token_loss_is_deits(mixed: bool) -> None:
    whole = batch(mixed)
    class_logits = logits(0)
    token_logits = logits(1)
    parts = DistillObjective(config(kind="token"))((class_logits, token_logits), whole)
    hard = F.cross_entropy(token_logits, teacher_top1(whole))
    torch.testing.assert_close(parts["loss"], (label_loss(class_logits, whole) + hard) / 2)
    torch.testing.assert_close(parts["teacher_loss"], hard)
    agrees = (token_logits.argmax(dim=1) == teacher_top1(whole)).float().mean()
    assert parts["agreement"] == agrees


@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.3])
def test_the_hard_loss_is_cross_entropy_to_the_stored_top1(alpha: float) -> None:
    whole = batch()
    student = logits(0)
    parts = DistillObjective(config(kind="hard", alpha=alpha, label_smoothing=0.2))(student, whole)
    hard = F.cross_entropy(student, teacher_top1(whole))
    torch.testing.assert_close(parts["loss"], alpha * hard + (1 - alpha) * label_loss(student, whole, 0.2))


@pytest.mark.parametrize("mixed", [False, True], ids=["labels", "mixed labels"])
def test_the_soft_loss_mixed_with_labels_has_the_gradient_of_deits_formula(mixed: bool) -> None:
    """(1 - λ) CE + λ τ² KL with τ = 3 and λ = 0.1 (arXiv 2012.12877, section 4); cross-entropy and KL differ by a
    constant.
    """
    whole = batch(mixed)
    student = logits(0).requires_grad_()
    assert whole.targets is not None
    loss = DistillObjective(config(kind="soft", temperature=3.0, alpha=0.1))(student, whole)["loss"]
    softened = (recover(whole.targets.indices, whole.targets.probs, CLASSES).log() / 3).softmax(dim=1)
    kl = F.kl_div((student / 3).log_softmax(dim=1), softened.float(), reduction="batchmean")
    formula = 0.9 * label_loss(student, whole) + 0.1 * 9 * kl
    found, expected = (torch.autograd.grad(each, student, retain_graph=True)[0] for each in (loss, formula))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_loss_without_labels_does_not_read_them(kind: str) -> None:
    whole = batch()
    loss = DistillObjective(config(kind=kind))
    assert loss(logits(0), whole)["loss"] == loss(logits(0), whole._replace(labels=None))["loss"]


def test_a_sample_without_a_label_learns_from_the_teacher_alone() -> None:
    whole = batch(mixed=True)
    assert whole.labels is not None
    assert whole.mixed is not None
    whole.labels[1] = whole.mixed.labels[2] = -1
    parts = DistillObjective(config(kind="token"))((logits(0), logits(1)), whole)
    weights = torch.tensor([1.0, 0, 0, 1, 1, 1])
    expected = DistillObjective(config(kind="token"))((logits(0), logits(1)), batch(mixed=True, weights=weights))
    torch.testing.assert_close(parts["label_loss"], expected["label_loss"])
    torch.testing.assert_close(parts["teacher_loss"], F.cross_entropy(logits(1), teacher_top1(whole)))


@pytest.mark.parametrize("kind", ["soft", "hard", "token"])
def test_holes_count_in_the_batch_and_have_no_gradient(kind: str) -> None:
    weights = torch.tensor([1.0, 1, 0, 1, 1, 0])
    class_logits, token_logits = logits(0).requires_grad_(), logits(1).requires_grad_()
    output = (class_logits, token_logits) if kind == "token" else class_logits
    parts = DistillObjective(config(kind=kind, alpha=0.4))(output, batch(weights=weights))
    (slope,) = torch.autograd.grad(parts["loss"], class_logits)
    assert torch.count_nonzero(slope[[2, 5]]) == 0
    assert torch.count_nonzero(slope[[0, 1, 3, 4]]) == 4 * CLASSES
    assert parts["holes"] == pytest.approx(2 / 6)


def test_every_kind_that_a_recipe_may_name_has_a_loss() -> None:
    assert set(TEACHER_LOSSES) == set(get_args(DistillLossConfig.model_fields["kind"].annotation))


def test_the_plain_objective_is_smoothed_cross_entropy() -> None:
    for whole in (batch(), batch(mixed=True)):
        parts = PlainObjective(PlainLossConfig(label_smoothing=0.1))(logits(0), whole)
        torch.testing.assert_close(parts["loss"], label_loss(logits(0), whole))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "token", "alpha": 1}, "nothing would train the class token"),
        ({"kind": "hard", "temperature": 3}, "applies only to soft"),
        ({"alpha": 0}, "greater than 0"),
    ],
    ids=["an untrained token", "a temperature of hard labels", "no teacher"],
)
def test_losses_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)


def test_the_teachers_share_is_one_by_default_and_half_for_the_token_loss() -> None:
    assert [config(kind=kind).teacher_share for kind in ("soft", "hard", "token")] == [1.0, 1.0, 0.5]
    assert [config(kind=kind).uses_labels for kind in ("soft", "hard", "token")] == [False, False, True]
