"""Mixing: pairs, λ and boxes follow from seeds, and views are mixed as by timm's Mixup."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from timm.data import mixup
from timm.data.mixup import cutmix_bbox_and_lam

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.views import native
from tinyvit_kd.views.mixing import Mix, _box, mix_views, partners, reference_mix, sample_mix

SIZE = 24
BOTH = ViewSpec(size=SIZE, mixup=0.8, cutmix=1.0)


UInt8 = npt.NDArray[np.uint8]
Mixing = Callable[..., UInt8]


def views(seed: int, size: int = SIZE) -> tuple[UInt8, UInt8]:
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, 256, (2, 3, size, size)).astype(np.uint8)
    return first, second


def some_mixes(size: int) -> list[Mix]:
    """Extreme weights; boxes that are empty, full, thin or clipped at borders; and random mixes."""
    weights = (0, 1, 32767, 32768, 65535, 65536, *np.random.default_rng(size).integers(0, 65537, 20).tolist())
    half = size // 2
    boxes = (
        *((0, 0, 0, 0), (size, size, size, size), (half, 0, half, size), (0, half, size, half)),
        *((0, 0, size, size), (0, 0, 1, 1), (size - 1, size - 1, size, size), (half, 0, size, half + 1)),
    )
    spec = ViewSpec.model_construct(**dict(ViewSpec(cutmix=1.0)) | {"size": size})
    drawn = [mix for seed in range(20) if (mix := sample_mix(seed, seed + 1, spec)) is not None]
    return [*map(Mix, weights), *(Mix(1, box) for box in boxes), *drawn]


@given(st.integers(0, 2**40), st.integers(0, 5000), st.integers(0, 300), st.integers(1, 300))
def test_partners_are_mutual_and_one_sample_of_an_odd_shard_has_none(
    seed: int, shard: int, view: int, length: int
) -> None:
    partner = partners(seed, shard, view, length)
    paired = np.flatnonzero(partner >= 0)
    assert len(paired) == length - length % 2
    assert np.array_equal(partner[partner[paired]], paired)
    assert not np.any(partner[paired] == paired)


def test_other_seeds_shards_and_views_have_other_pairs() -> None:
    for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        assert not np.array_equal(partners(0, 0, 0, 100), partners(*other, 100))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_both_views_of_a_pair_get_the_same_mix(first: int, second: int) -> None:
    assert sample_mix(first, second, BOTH) == sample_mix(second, first, BOTH)


@pytest.mark.parametrize(
    ("mixup", "cutmix", "prob", "switch"),
    [(0.8, 0.0, 1.0, 0.5), (0.5, 0.0, 1.0, 0.5), (2.0, 0.0, 1.0, 0.5), (0.8, 1.0, 0.6, 0.5), (0.8, 1.0, 0.9, 0.2)],
)
def test_lambda_has_its_beta_distribution(mixup: float, cutmix: float, prob: float, switch: float) -> None:
    """Pairs are also mixed, and cut, as often as the spec says."""
    spec = ViewSpec(size=SIZE, mixup=mixup, cutmix=cutmix, mix_prob=prob, mix_switch_prob=switch)
    mixes = [sample_mix(seed, seed + 10_000, spec) for seed in range(8000)]
    drawn = [mix for mix in mixes if mix is not None]
    assert stats.binomtest(len(drawn), len(mixes), prob).pvalue > 1e-3
    smooth = [mix.lam for mix in drawn if mix.box is None]
    assert stats.kstest(smooth, stats.beta(mixup, mixup).cdf).pvalue > 1e-3
    if cutmix:
        assert stats.binomtest(len(smooth), len(drawn), 1 - switch).pvalue > 1e-3


def test_boxes_are_distributed_as_timms() -> None:
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


@given(st.integers(1, 512), st.floats(0, 1), st.data())
def test_a_box_is_as_published_and_equals_timms_if_its_side_is_even(size: int, lam: float, data: st.DataObject) -> None:
    """For the same λ and centre, compared with ``rand_bbox`` in CutMix's code (arXiv 1905.04899)."""
    centre = [data.draw(st.integers(0, size - 1)) for _ in "yx"]
    side = int(size * np.sqrt(1 - lam))
    top, bottom, left, right = (
        int(np.clip(each + half, 0, size)) for each in centre for half in (-(side // 2), side // 2)
    )
    assert _box(Chosen(centre), size, lam) == (left, top, right, bottom)
    if side % 2 == 0:
        with pytest.MonkeyPatch.context() as patched:
            theirs = iter(centre)
            patched.setattr(np.random, "randint", lambda *_, **__: next(theirs))
            assert cutmix_bbox_and_lam((1, 3, size, size), lam)[0] == (top, bottom, left, right)


class Chosen(Draws):
    """Draws that give the integers they are told to."""

    def __init__(self, integers: list[int]) -> None:
        super().__init__(0)
        self._integers = iter(integers)

    def integer(self, *_: int) -> int:
        return next(self._integers)


@given(st.integers(0, 1000), st.integers(0, 65536))
def test_mixup_equals_the_float_formula_to_half_a_level(seed: int, weight: int) -> None:
    own, partner = views(seed)
    mix = Mix(weight)
    exact = mix.lam * own.astype(np.float64) + (1 - mix.lam) * partner
    assert np.abs(mix_views(own, partner, mix) - exact).max() <= 0.5 + 1e-9


def test_cutmix_pastes_the_partners_box_and_lambda_follows_from_its_area() -> None:
    own, partner = views(3)
    for seed in range(200):
        mix = sample_mix(seed, seed + 1, ViewSpec(size=SIZE, cutmix=1.0))
        assert mix is not None
        assert mix.box is not None
        left, top, right, bottom = mix.box
        mixed = mix_views(own, partner, mix)
        expected = own.copy()
        expected[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        assert np.array_equal(mixed, expected)
        assert mix.lam == pytest.approx(1 - (right - left) * (bottom - top) / SIZE**2, abs=1e-5)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_pairs_are_mixed_as_timms_mixup_mixes_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm's own ``Mixup`` with our λ and boxes; images agree to half a level, λ of the labels exactly."""
    spec = ViewSpec(size=SIZE, mixup=0.8 if kind == "mixup" else 0, cutmix=1.0 if kind == "cutmix" else 0)
    pairs = [views(seed) for seed in range(40)]
    mixes = [mix for seed in range(40) if (mix := sample_mix(seed, seed + 1, spec)) is not None]
    boxes = iter([mix.box for mix in mixes if mix.box is not None])

    def our_box(shape: tuple[int, ...], *_: object, **__: object) -> tuple[tuple[int, int, int, int], float]:
        left, top, right, bottom = next(boxes)
        return (top, bottom, left, right), 1 - (right - left) * (bottom - top) / (shape[-1] * shape[-2])

    mixer = mixup.Mixup(mode="pair", num_classes=80, label_smoothing=0.0)
    lams = np.array([mix.lam for mix in mixes])
    cuts = np.full(40, kind == "cutmix")
    monkeypatch.setattr(mixer, "_params_per_elem", lambda _: (lams.copy() - 1e-9 * cuts, cuts))
    monkeypatch.setattr(mixup, "cutmix_bbox_and_lam", our_box)
    # The partner of sample i is the i-th from the end of the batch.
    batch = np.stack([own for own, _ in pairs] + [partner for _, partner in pairs[::-1]])
    theirs, targets = mixer(torch.from_numpy(batch).double(), torch.arange(80))
    for row, ((own, partner), mix) in enumerate(zip(pairs, mixes, strict=True)):
        other = 79 - row
        assert np.abs(mix_views(own, partner, mix) - theirs[row].numpy()).max() <= 0.5 + 1e-9
        assert np.abs(mix_views(partner, own, mix) - theirs[other].numpy()).max() <= 0.5 + 1e-9
        for sample, counterpart in ((row, other), (other, row)):
            assert float(targets[sample, sample]) == pytest.approx(mix.lam, abs=1e-5)
            assert float(targets[sample, counterpart]) == pytest.approx(1 - mix.lam, abs=1e-5)


@pytest.mark.parametrize("mixing", [mix_views, reference_mix])
@pytest.mark.parametrize("size", [1, 7, 24])
def test_a_mixed_view_can_be_written_to_a_given_array_or_to_the_view_itself(mixing: Mixing, size: int) -> None:
    own, partner = views(5, size)
    for mix in some_mixes(size):
        expected = mixing(own, partner, mix)
        batch = np.zeros((2, 3, size, size), np.uint8)
        in_place = own.copy()
        assert mixing(own, partner, mix, batch[1]).base is batch
        assert mixing(in_place, partner, mix, out=in_place) is in_place
        np.testing.assert_array_equal(batch, np.stack([np.zeros_like(own), expected]))
        np.testing.assert_array_equal(in_place, expected)


@pytest.mark.parametrize("box", [None, (1, 2, 3, 4)])
@pytest.mark.parametrize("mixing", [mix_views, reference_mix])
def test_arrays_that_do_not_fit_are_refused(mixing: Mixing, box: tuple[int, int, int, int] | None) -> None:
    (own, partner), mix = views(1), Mix(9, box)
    batch = np.zeros((2, 3, SIZE, SIZE), np.uint8)
    fixed = own.copy()
    fixed.flags.writeable = False
    for wrong in (own[:, 1:], own.astype(np.uint16), np.asfortranarray(own), own.reshape(-1)):
        for arguments in ((wrong, partner, mix), (own, wrong, mix), (own, partner, mix, wrong)):
            with pytest.raises(ValueError, match="expected contiguous uint8"):
                mixing(*arguments)
    for out, message in (
        (fixed, "written"),
        (partner, "overlaps"),
        (batch.reshape(-1)[1 : own.size + 1].reshape(own.shape), "overlaps"),
    ):
        with pytest.raises(ValueError, match=message):
            mixing(batch[0], partner, mix, out)


@pytest.mark.parametrize("mixing", [mix_views, reference_mix])
@pytest.mark.parametrize(
    "mix",
    [Mix(-1), Mix(65537), *(Mix(0, box) for box in ((-1, 0, 1, 1), (0, 0, 25, 1), (3, 0, 2, 1), (0, 5, 9, 4)))],
    ids=str,
)
def test_a_mix_that_does_not_fit_is_refused(mixing: Mixing, mix: Mix) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        mixing(*views(1), mix)


@pytest.mark.skipif(not native.is_on(), reason="the native renderer is not built, or is switched off")
@pytest.mark.parametrize("size", [1, 2, 7, 16, 97, 224])
@pytest.mark.parametrize("processor", ["", "baseline", "avx2", "avx512"])
def test_native_mixing_equals_the_reference(size: int, processor: str) -> None:
    if processor and not native.supports(processor):
        pytest.skip(f"this machine, or this build, has no {processor}")
    own, partner = views(size, size)
    for mix in some_mixes(size):
        expected = reference_mix(own, partner, mix)
        np.testing.assert_array_equal(mix_views(own, partner, mix), expected, err_msg=str(mix))
        if mix.box is None:
            out = own.copy()
            native.mixup(out, partner, mix.weight, out, processor)
            np.testing.assert_array_equal(out, expected, err_msg=str(mix))


@pytest.mark.skipif(not native.is_on(), reason="the native renderer is not built, or is switched off")
def test_all_pairs_of_levels_mix_as_in_the_reference_at_any_offset() -> None:
    levels = np.indices((256, 256)).astype(np.uint8)
    for weight in (0, 1, 255, 256, 32767, 32768, 43691, 65281, 65535, 65536):
        own, partner = (np.ascontiguousarray(np.broadcast_to(each, (3, 256, 256))) for each in levels)
        expected = reference_mix(own, partner, Mix(weight)).reshape(-1)
        for start in range(18):
            found = np.full(own.size - start + 1, 7, np.uint8)
            native.mixup(own.reshape(-1)[start:], partner.reshape(-1)[start:], weight, found[:-1])
            np.testing.assert_array_equal(found[:-1], expected[start:])
            assert found[-1] == 7


@pytest.mark.skipif(not native.is_on(), reason="the native renderer is not built, or is switched off")
def test_the_extension_itself_refuses_writes_outside_its_arrays() -> None:
    own, partner = views(0)
    out = own.copy()
    both = np.zeros(2 * own.size, np.uint8)
    for arguments in ((own[0], partner, 1, out), (own, partner[0], 1, out), (own, partner, 1, partner)):
        with pytest.raises(ValueError, match="do not describe"):
            native.mixup(*arguments)
    with pytest.raises(ValueError, match="do not describe"):
        native.mixup(both[: own.size], partner, 1, both[1 : own.size + 1])
    for size, box in ((SIZE, (0, 0, SIZE + 1, 1)), (SIZE, (0, -1, 1, 1)), (SIZE + 1, (0, 0, 1, 1)), (0, (0, 0, 0, 0))):
        with pytest.raises(ValueError, match="do not describe"):
            native.module().cutmix(own, partner, size, box, out)
    with pytest.raises(ValueError, match="do not describe"):
        native.mixup(own, partner, 1, out, "no such processor")


def test_threads_mix_alike() -> None:
    (own, partner), mixes = views(11, 224), some_mixes(224)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda mix: mix_views(own, partner, mix), mixes * 5))
    for mix, view in zip(mixes * 5, found, strict=True):
        np.testing.assert_array_equal(view, reference_mix(own, partner, mix))
