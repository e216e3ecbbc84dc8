"""Sampled parameters have the distribution of timm's and torchvision's transforms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chi2_contingency, ks_2samp
from timm.data.auto_augment import LEVEL_TO_ARG
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import ColorJitter

from tests.views.recording import as_operation, recorded_boxes, recording_policy
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.views.params import NOISE_LENGTH, EraseBox, Operation, ViewParams, sample_params
from tinyvit_kd.views.randaugment_levels import OPERATION_OF

COUNT = 10_000
# Seeds are fixed, so every comparison passes always or never. There are about 200 comparisons in this file.
LEAST_P = 1e-4

POLICIES = [
    "rand-m9-mstd0.5-inc1",
    "rand-m9-mstd0.5",
    "rand-m12-n3-p0.7-mstd101-mmax20-inc1",
    "rand-mstd1-n3-tweights",
    "rand-m9-mstd0.5-n3-t3aw",
    "rand-m8-mstd1-t3a-p1",
]


def samples(spec: ViewSpec, width: int = 500, height: int = 375) -> list[ViewParams]:
    return [sample_params(seed, spec, width, height) for seed in range(COUNT)]


def assert_same_distribution(ours: Sequence[float], theirs: Sequence[float], what: str) -> None:
    """Kolmogorov-Smirnov test on two samples of numbers."""
    assert ks_2samp(ours, theirs).pvalue > LEAST_P, what


def assert_same_frequencies(ours: Sequence[Hashable], theirs: Sequence[Hashable], what: str) -> None:
    """Chi-square test on two samples of names; rare ones are counted together."""
    counts = Counter(ours), Counter(theirs)
    common = [name for name, count in (counts[0] + counts[1]).items() if count >= 20]
    table = np.array([[each[name] for name in common] + [each.total()] for each in counts])
    table[:, -1] -= table[:, :-1].sum(axis=1)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] > 1:
        assert chi2_contingency(table).pvalue > LEAST_P, what
    assert table.shape[1] > 0


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (33, 32), (1000, 300), (60, 400)])
def test_crops_are_distributed_as_timms(width: int, height: int) -> None:
    spec = ViewSpec()
    image = Image.new("1", (width, height))
    draw = RandomResizedCropAndInterpolation(224).get_params
    drawn = (draw(image, spec.scale, spec.ratio) for _ in range(COUNT))
    theirs = [(left, top, w, h) for top, left, h, w in drawn]
    ours = [params.crop for params in samples(spec, width, height)]
    for number, what in enumerate(("left", "top", "width", "height")):
        assert_same_distribution([crop[number] for crop in ours], [crop[number] for crop in theirs], what)
    assert_same_distribution([c[2] * c[3] for c in ours], [c[2] * c[3] for c in theirs], "area")
    assert_same_distribution([c[2] / c[3] for c in ours], [c[2] / c[3] for c in theirs], "aspect")


@pytest.mark.parametrize("ratio", [(3 / 4, 4 / 3), (0.01, 0.02), (1.0, 1.0), (90.0, 99.0)])
@given(width=st.integers(1, 50), height=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_crops_have_pixels_and_lie_inside(ratio: tuple[float, float], width: int, height: int, seed: int) -> None:
    left, top, w, h = sample_params(seed, ViewSpec(ratio=ratio), width, height).crop
    assert 0 <= left < left + w <= width
    assert 0 <= top < top + h <= height


@pytest.mark.parametrize(("width", "height"), [(1000, 40), (40, 1000)])
def test_if_no_attempt_fits_the_crop_is_central(width: int, height: int) -> None:
    image = Image.new("1", (width, height))
    top, left, h, w = RandomResizedCropAndInterpolation.get_params(image, (1.0, 1.0), (3 / 4, 4 / 3))
    assert sample_params(0, ViewSpec(scale=(1.0, 1.0)), width, height).crop == (left, top, w, h)


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.5, 1.0])
def test_flips_have_their_probability(probability: float) -> None:
    flips = sum(params.flip for params in samples(ViewSpec(hflip=probability)))
    assert abs(flips - COUNT * probability) <= 4 * np.sqrt(COUNT * probability * (1 - probability))


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("text", POLICIES)
def test_operations_are_distributed_as_timms(text: str) -> None:
    spec = ViewSpec(auto_augment=text)
    ours = [params.operations for params in samples(spec)]
    theirs = recorded_operations(spec)
    assert_same_frequencies([len(each) for each in ours], [len(each) for each in theirs], "how many")
    assert_same_frequencies([names(each) for each in ours], [names(each) for each in theirs], "names in order")
    for name in {operation.name for each in theirs for operation in each}:
        assert_same_distribution(values(ours, name), values(theirs, name), name)


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("text", ["rand-m12-n6-p1-mstd101-mmax20", "rand-m9-n6-p1-mstd0.5", "rand-m9-n6-p1-mstd3"])
def test_magnitudes_are_distributed_as_timms(text: str) -> None:
    spec = ViewSpec(auto_augment=text)
    ours = magnitudes([params.operations for params in samples(spec)])
    assert_same_distribution(ours, magnitudes(recorded_operations(spec)), "magnitude")


def magnitudes(views: list[tuple[Operation, ...]]) -> list[float]:
    """Magnitudes, from all operations whose argument is proportional to the magnitude."""
    scale = {"Rotate": 3.0, "ShearX": 0.03, "ShearY": 0.03, "TranslateX": 0.045, "TranslateY": 0.045}
    flat = (operation for each in views for operation in each)
    return [round(abs(each.value) / scale[each.name], 9) for each in flat if each.name in scale]


def recorded_operations(spec: ViewSpec) -> list[tuple[Operation, ...]]:
    log: list[Operation] = []
    policy = recording_policy(spec, log, apply=False)
    image = Image.new("RGB", (1, 1))
    found = []
    for _ in range(COUNT):
        log.clear()
        policy(image)
        found.append(tuple(log))
    return found


def names(operations: tuple[Operation, ...]) -> tuple[str, ...]:
    return tuple(operation.name for operation in operations)


def values(views: list[tuple[Operation, ...]], name: str) -> list[float]:
    return [operation.value for each in views for operation in each if operation.name == name]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("name", OPERATION_OF)
def test_arguments_follow_from_magnitudes_as_timms_to_the_last_bit(name: str) -> None:
    operation, level = OPERATION_OF[name]
    for magnitude in np.linspace(0, 20, 257).tolist():
        argument_of = LEVEL_TO_ARG[name]
        theirs = {as_operation(name, argument_of(magnitude, {}) if argument_of else ()) for _ in range(40)}
        assert theirs == {Operation(operation, level(magnitude / 10.0, sign)) for sign in (-1.0, 1.0)}


@pytest.mark.usefixtures("seeded")
def test_colour_jitter_is_distributed_as_torchvisions() -> None:
    spec = ViewSpec(auto_augment=None, color_jitter=0.4)
    jitter = ColorJitter(0.4, 0.4, 0.4)
    order = ("Brightness", "Contrast", "Color")
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    theirs = []
    for _ in range(COUNT):
        indexes, *factors = jitter.get_params(*ranges)
        theirs.append(tuple(Operation(order[i], factors[i]) for i in indexes.tolist() if i < 3))
    ours = [params.operations for params in samples(spec)]
    assert_same_frequencies([names(each) for each in ours], [names(each) for each in theirs], "order")
    for name in order:
        assert_same_distribution(values(ours, name), values(theirs, name), name)


def test_without_a_policy_there_are_no_operations() -> None:
    assert not any(params.operations for params in samples(ViewSpec(auto_augment=None)))


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize(("probability", "count", "size"), [(0.25, 1, 224), (1.0, 3, 224), (0.6, 1, 8)])
def test_erased_boxes_are_distributed_as_timms(probability: float, count: int, size: int) -> None:
    spec = ViewSpec(size=size, erase_prob=probability, erase_count=count, auto_augment=None)
    views = [params.erase for params in samples(spec)]
    recorded = [recorded_boxes(spec) for _ in range(COUNT)]
    assert_same_frequencies([len(each) for each in views], [len(each) for each in recorded], "how many")
    ours = [(box.left, box.top, box.width, box.height) for each in views for box in each]
    theirs = [box for each in recorded for box in each]
    for number, what in enumerate(("left", "top", "width", "height")):
        assert_same_distribution([box[number] for box in ours], [box[number] for box in theirs], what)
    assert_same_distribution([b[2] * b[3] for b in ours], [b[2] * b[3] for b in theirs], "area")
    assert_same_distribution([b[0] + b[2] for b in ours], [b[0] + b[2] for b in theirs], "right edge")


def test_noise_offsets_are_uniform() -> None:
    offsets = [box.noise_offset for params in samples(ViewSpec(erase_prob=1)) for box in params.erase]
    assert_same_distribution(offsets, np.linspace(0, NOISE_LENGTH, len(offsets)).tolist(), "noise offset")


def test_neighbouring_seeds_are_unrelated() -> None:
    lefts = np.array([params.crop[0] for params in samples(ViewSpec())], np.float64)
    assert abs(np.corrcoef(lefts[1:], lefts[:-1])[0, 1]) < 4 / np.sqrt(COUNT)


def test_parameters_of_a_seed_never_change() -> None:
    assert sample_params(20240607, ViewSpec(erase_prob=1), 500, 375) == ViewParams(
        crop=(86, 6, 403, 333),
        flip=False,
        operations=(
            Operation(name="ShearX", value=0.26451701891999996),
            Operation(name="Rotate", value=-27.202308063),
        ),
        erase=(EraseBox(left=17, top=5, width=198, height=65, noise_offset=127408),),
    )


def test_seeds_may_be_numpys_integers() -> None:
    seed = np.uint32(2**32 - 1)
    assert sample_params(seed, ViewSpec(), 500, 375) == sample_params(int(seed), ViewSpec(), 500, 375)  # type: ignore[arg-type]
