"""Mixing: pairs, λ and boxes follow from seeds, and mix as timm's Mixup does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from timm.data.mixup import cutmix_bbox_and_lam

from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.views.mixing import Mix, mix_views, partners, sample_mix

SIZE = 24
BOTH = ViewSpec(size=SIZE, mixup=0.8, cutmix=1.0)


def views(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 256, (2, 3, SIZE, SIZE)).astype(np.uint8)
    return first, second


@given(st.integers(0, 2**40), st.integers(0, 5000), st.integers(0, 300), st.integers(1, 300))
def test_partners_are_mutual_and_an_odd_shard_leaves_one_alone(seed: int, shard: int, view: int, length: int) -> None:
    partner = partners(seed, shard, view, length)
    paired = np.flatnonzero(partner >= 0)
    assert len(paired) == length - length % 2
    assert np.array_equal(partner[partner[paired]], paired)
    assert not np.any(partner[paired] == paired)


def test_other_views_have_other_pairs() -> None:
    assert not np.array_equal(partners(0, 0, 0, 100), partners(0, 0, 1, 100))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_both_views_of_a_pair_get_the_same_mix(first: int, second: int) -> None:
    assert sample_mix(first, second, BOTH) == sample_mix(second, first, BOTH)


@pytest.mark.parametrize(
    ("mixup", "cutmix", "prob"), [(0.8, 0.0, 1.0), (0.5, 0.0, 1.0), (2.0, 0.0, 1.0), (0.8, 1.0, 0.6)]
)
def test_lambda_has_its_beta_distribution(mixup: float, cutmix: float, prob: float) -> None:
    spec = ViewSpec(size=SIZE, mixup=mixup, cutmix=cutmix, mix_prob=prob)
    mixes = [sample_mix(seed, seed + 10_000, spec) for seed in range(8000)]
    drawn = [mix for mix in mixes if mix is not None]
    assert stats.binomtest(len(drawn), len(mixes), prob).pvalue > 1e-3
    smooth = [mix.lam for mix in drawn if mix.box is None]
    assert stats.kstest(smooth, stats.beta(mixup, mixup).cdf).pvalue > 1e-3
    if cutmix:
        assert stats.binomtest(len(smooth), len(drawn), 0.5).pvalue > 1e-3


def test_boxes_have_the_distribution_of_timms() -> None:
    spec = ViewSpec(size=SIZE, cutmix=1.0)
    ours = [mix for seed in range(6000) if (mix := sample_mix(seed, seed + 10_000, spec)) is not None]
    np.random.seed(0)
    theirs = [cutmix_bbox_and_lam((1, 3, SIZE, SIZE), np.random.beta(1, 1)) for _ in range(6000)]
    for mine, other in (
        ([round(mix.lam * SIZE**2) for mix in ours], [round(lam * SIZE**2) for _, lam in theirs]),
        ([mix.box[0] for mix in ours if mix.box], [box[2] for box, _ in theirs]),
        ([mix.box[3] for mix in ours if mix.box], [box[1] for box, _ in theirs]),
    ):
        assert stats.ks_2samp(mine, other).pvalue > 1e-3


@given(st.integers(0, 1000), st.integers(0, 65536))
def test_mixup_equals_the_float_formula_to_half_a_level(seed: int, weight: int) -> None:
    own, partner = views(seed)
    mix = Mix(weight)
    exact = mix.lam * own.astype(np.float64) + (1 - mix.lam) * partner
    assert np.abs(mix_views(own, partner, mix) - exact).max() <= 0.5 + 1e-9


def test_cutmix_pastes_the_partners_box_and_lambda_is_its_true_share() -> None:
    own, partner = views(3)
    for seed in range(200):
        mix = sample_mix(seed, seed + 1, ViewSpec(size=SIZE, cutmix=1.0))
        assert mix is not None
        assert mix.box is not None
        left, top, right, bottom = mix.box
        mixed, expected = mix_views(own, partner, mix), own.copy()
        expected[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        assert np.array_equal(mixed, expected)
        assert mix.lam == pytest.approx(1 - (right - left) * (bottom - top) / SIZE**2, abs=1e-5)


def test_a_mixed_pair_equals_timms_arithmetic() -> None:
    own, partner = views(9)
    mix = Mix(round(0.3 * 65536))
    batch = torch.from_numpy(np.stack([own, partner])).float()
    theirs = batch * mix.lam + batch.flip(0) * (1 - mix.lam)  # timm/data/mixup.py, Mixup._mix_batch
    ours = np.stack([mix_views(own, partner, mix), mix_views(partner, own, mix)])
    assert np.abs(ours - theirs.numpy()).max() <= 0.5 + 1e-4
