"""Running statistics over micro-batches and processes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.batch_norm import RunningStats


def norm_with_odd_statistics() -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(1000)
    generator = torch.Generator().manual_seed(0)
    norm.load_state_dict(norm.state_dict() | {"running_mean": torch.rand(1000, generator=generator)})
    return norm


@pytest.mark.parametrize("count", [1, 2, 6, 7])
def test_frozen_statistics_keep_every_bit(count: int) -> None:
    norm = norm_with_odd_statistics().eval()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    stats = RunningStats(norm)
    for _ in stats.over_micro_batches(range(count)):
        norm(torch.randn(4, 1000))
    stats.restore(stats.read().expand(count + 1, -1), solo_job())  # as from a job with more processes
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_micro_batches_leave_the_mean_of_their_updates() -> None:
    norm = norm_with_odd_statistics()
    chunks = list(torch.randn(3, 4, 1000))
    expected = 0.9 * norm.get_buffer("running_mean") + 0.1 * torch.stack(chunks).mean(dim=(0, 1))
    for chunk in RunningStats(norm).over_micro_batches(chunks):
        norm(chunk)
    torch.testing.assert_close(norm.get_buffer("running_mean"), expected)
    assert norm.get_buffer("num_batches_tracked") == 1
