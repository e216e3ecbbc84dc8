"""A head restricted to groups of its classes answers with its own probabilities, added and made to sum to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.models.networks import saved, views
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.restriction import RestrictedNetwork, Restriction
from tinyvit_kd.models.teacher import Teacher, TeacherFacts, build_teacher, topk_probs

Floats = npt.NDArray[np.float64]
GROUPS = {
    "chosen": ((4,), (0,), (7,)),
    "added": ((1, 2), (0,)),
    "of several sizes": ((9,), (0, 1, 2, 3, 4), (5, 6), (8,)),
    "all": tuple((number,) for number in range(10)),
}


def by_numpy(logits: Floats, members: tuple[tuple[int, ...], ...]) -> Floats:
    """The probabilities of groups among all of their members."""
    masses = np.exp(logits - logits.max(axis=1, keepdims=True))
    sums = np.stack([masses[:, list(group)].sum(axis=1) for group in members], axis=1)
    return np.asarray(sums / sums.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("members", GROUPS.values(), ids=GROUPS)
def test_its_softmax_is_what_numpy_computes(members: tuple[tuple[int, ...], ...]) -> None:
    logits = 5 * torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    restricted = RestrictedNetwork(nn.Identity(), Restriction(members, 10))(logits)
    expected = by_numpy(logits.double().numpy(), members)
    np.testing.assert_allclose(restricted.softmax(dim=1).numpy(), expected, rtol=2e-6)


def test_classes_far_below_the_best_keep_their_logits_and_half_precision_loses_nothing() -> None:
    logits = torch.tensor([[0.0, -300.0, -301.0, 65000.0]]).half()
    restricted = RestrictedNetwork(nn.Identity(), Restriction(((0,), (1, 2)), 4))(logits)
    assert restricted.dtype == torch.float32
    assert restricted[0, 1].item() == pytest.approx(np.logaddexp(-300, -301), rel=1e-6)


def test_the_hash_follows_from_the_members_in_their_order() -> None:
    hashes = {Restriction(each, 10).hash for each in (((1, 2), (3,)), ((1,), (2, 3)), ((3,), (1, 2)), ((1,), (2,)))}
    assert len(hashes) == 4
    assert {len(each) for each in hashes} == {16}


def test_a_restricted_teacher_has_its_networks_weights_hash_and_top_k(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    whole = build_teacher(TeacherConfig(checkpoint=str(tmp_path)), torch.device("cpu"), "float32")
    facts = TeacherFacts(**vars(whole.facts) | {"num_classes": 2, "restriction": Restriction(((3,), (0, 1)), 4)})
    teacher = Teacher(whole.network, facts, torch.device("cpu"), "float32")
    assert teacher.weights_hash == whole.weights_hash
    with torch.inference_mode():
        indices, probs, residual = topk_probs(teacher(views()), 2)
        expected = by_numpy(whole(views()).double().numpy(), ((3,), (0, 1)))
    assert indices.tolist() == [[0, 1]] * len(indices)
    np.testing.assert_allclose(probs.numpy(), expected, rtol=1e-5)
    assert residual.max() < 1e-6


def test_it_is_compiled_as_one_graph() -> None:
    network = RestrictedNetwork(nn.Linear(8, 10), Restriction(GROUPS["of several sizes"], 10)).eval()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    inputs = torch.randn(3, 8)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs), network(inputs))
