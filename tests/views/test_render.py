"""Whole views equal timm's for the same random choices, and depend on nothing but their arguments."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval, transforms_imagenet_train

from tests.views.conftest import NEEDS_REFERENCE
from tests.views.images import encoded, sample_image
from tests.views.recording import record_operations
from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.errors import ImageTooLargeError, RendererError
from tinyvit_kd.views import native
from tinyvit_kd.views.params import EraseBox, Operation, ViewParams, sample_params
from tinyvit_kd.views.randaugment_levels import OPERATION_OF
from tinyvit_kd.views.render import decode, render, render_eval, render_views, view_digest
from tinyvit_kd.views.selfcheck import check_renderers, fixed_digests

SPECS: dict[str, dict[str, Any]] = {
    "default": {},
    "flipped bilinear": {"hflip": 1.0, "interpolation": "bilinear", "auto_augment": "rand-m9-n3-mstd0.5"},
    "3-augment": {"auto_augment": "rand-m9-n3-p0.9-mstd1-t3aw"},
    "strong, other mean": {"auto_augment": "rand-m15-n4-p1-mmax20-mstd101-inc1", "mean": (0.5, 0.2, 0.9)},
    "colour jitter": {"auto_augment": None, "color_jitter": 0.4},
    "crop only": {"auto_augment": None},
}
SIZES = [(120, 90), (61, 150), (300, 40), (16, 16), (3, 200)]


def timm_view(image: Image.Image, spec: ViewSpec) -> tuple[np.ndarray, ViewParams]:
    """A view that timm renders with its own random choices, and those choices."""
    log: list[Operation] = []
    crops: list[tuple[int, int, int, int]] = []
    primary, secondary, final = transforms_imagenet_train(
        img_size=spec.size,
        hflip=spec.hflip,
        color_jitter=spec.color_jitter or None,
        auto_augment=spec.auto_augment,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        normalize=False,
        separate=True,
    )
    draw_crop = primary.transforms[0].get_params

    def logged_crop(*arguments: Any) -> Any:
        top, left, height, width = draw_crop(*arguments)
        crops.append((left, top, width, height))
        return top, left, height, width

    primary.transforms[0].get_params = logged_crop
    for transform in secondary.transforms:
        if spec.auto_augment:
            record_operations(transform, log)
        else:
            record_jitter(transform, log)
    view = final(secondary(primary(image))).numpy()
    return view, ViewParams(crops[0], spec.hflip == 1, tuple(log), ())


def record_jitter(jitter: Any, log: list[Operation]) -> None:
    draw = jitter.get_params

    def logged(*ranges: Any) -> Any:
        order, *factors = draw(*ranges)
        names = ("Brightness", "Contrast", "Color")
        log.extend(Operation(names[i], factors[i]) for i in order.tolist() if i < 3)
        return order, *factors

    jitter.get_params = logged


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("fields", SPECS.values(), ids=SPECS.keys())
def test_views_equal_timms_for_the_same_choices(fields: dict[str, Any]) -> None:
    spec = ViewSpec(**({"size": 96, "hflip": 0.0, "erase_prob": 0} | fields))
    for number in range(60):
        image = sample_image(*SIZES[number % len(SIZES)], seed=number)
        theirs, params = timm_view(image, spec)
        np.testing.assert_array_equal(render(image, params, spec), theirs, err_msg=str(params))


@pytest.mark.usefixtures("seeded")
def test_views_of_photos_equal_timms(shared_data: Path) -> None:
    spec = ViewSpec(hflip=1.0, erase_prob=0)
    for path in sorted((shared_data / "odd_images").glob("n0*"))[:12]:
        image = decode(path.read_bytes(), spec.max_pixels)
        with Image.open(path) as opened:
            theirs, params = timm_view(opened.convert("RGB"), spec)
        np.testing.assert_array_equal(render(image, params, spec), theirs)


@NEEDS_REFERENCE  # timm resizes with Pillow
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize(("size", "crop_pct"), [(64, 0.875), (33, 0.9), (48, 1.0)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_views_equal_timms(mode: Any, size: int, crop_pct: float, interpolation: Any) -> None:
    spec = EvalViewSpec(size=size, mode=mode, crop_pct=crop_pct, interpolation=interpolation)
    transform = transforms_imagenet_eval(
        img_size=size, crop_pct=crop_pct, crop_mode=mode, interpolation=interpolation, normalize=False
    )
    for width, height in [*SIZES, (73, 73), (36, 90), (90, 37), (1, 1)]:
        image = sample_image(width, height)
        np.testing.assert_array_equal(render_eval(encoded(image), spec), transform(image).numpy())


@pytest.mark.parametrize(("mode", "crop_pct"), [("center", 0.875), ("squash", 1.0)])
def test_evaluation_crops_only_where_a_crop_is_usual_or_asked_for(mode: Any, crop_pct: float) -> None:
    image = encoded(sample_image(80, 60))
    usual, named = EvalViewSpec(size=32, mode=mode), EvalViewSpec(size=32, mode=mode, crop_pct=crop_pct)
    asked = EvalViewSpec(size=32, mode=mode, crop_pct=0.75)
    assert render_eval(image, usual).tobytes() == render_eval(image, named).tobytes()
    assert render_eval(image, usual).tobytes() != render_eval(image, asked).tobytes()


def test_in_evaluation_a_very_thin_image_is_a_hole_and_does_not_fill_the_memory() -> None:
    thin = encoded(Image.new("RGB", (1, 60_000)))
    with pytest.raises(ImageTooLargeError) as caught:
        render_eval(thin, EvalViewSpec())
    assert caught.value.found == "too_large"
    assert render_eval(thin, EvalViewSpec(mode="squash")).shape == (3, 224, 224)


def test_views_of_one_decoding_equal_views_one_by_one() -> None:
    spec = ViewSpec(size=40)
    image_bytes = encoded(sample_image(80, 60), "JPEG")
    seeds = [5, 2**32 - 1, 0, 5]
    views = render_views(image_bytes, seeds, spec)
    assert (views.shape, str(views.dtype), views.flags.c_contiguous) == ((4, 3, 40, 40), "uint8", True)
    image = decode(image_bytes, spec.max_pixels)
    for view, seed in zip(views, seeds, strict=True):
        alone = render(image, sample_params(seed, spec, 80, 60), spec)
        assert alone.flags.c_contiguous
        np.testing.assert_array_equal(view, alone)
        np.testing.assert_array_equal(view, render_views(image_bytes, [seed], spec)[0])


def test_no_seeds_are_no_views() -> None:
    assert render_views(encoded(sample_image(8, 8)), [], ViewSpec(size=4)).shape == (0, 3, 4, 4)


def test_later_boxes_cover_earlier_ones() -> None:
    spec = ViewSpec(size=16, erase_mode="const", mean=(0.0, 0.0, 0.0))
    boxes = (EraseBox(0, 0, 8, 8, 0), EraseBox(4, 4, 8, 8, 0))
    view = render(Image.new("RGB", (16, 16), (9, 9, 9)), ViewParams((0, 0, 16, 16), False, (), boxes), spec)
    assert np.count_nonzero(view[0] == 0) == 64 + 64 - 16


def test_rendering_touches_no_global_generator() -> None:
    before = generator_states()
    render_views(encoded(sample_image(60, 60)), range(30), ViewSpec(size=32, erase_prob=1))
    assert generator_states() == before


def generator_states() -> tuple[object, ...]:
    return random.getstate(), str(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()


def test_rendering_ignores_the_state_of_global_generators() -> None:
    image_bytes = encoded(sample_image(60, 60))
    digests = set()
    for seed in range(3):
        random.seed(seed)
        digests.add(view_digest(render_views(image_bytes, range(20), ViewSpec(size=32))))
    assert len(digests) == 1


def test_rendering_does_not_change_the_image() -> None:
    image = sample_image(32, 32)
    spec = ViewSpec(size=32, erase_prob=1, hflip=0)
    before = image.tobytes()
    render(image, ViewParams((0, 0, 32, 32), False, (), (EraseBox(0, 0, 9, 9, 0),)), spec)
    assert image.tobytes() == before


def test_digest_is_32_bits_of_the_bytes() -> None:
    view = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    other = view.copy()
    other[2, 3, 3] ^= 1
    assert 0 <= view_digest(view) < 2**32
    assert view_digest(view) == view_digest(view.copy()) != view_digest(other)


def test_views_of_a_seed_never_change() -> None:
    views = render_views(encoded(sample_image(150, 110)), range(6), ViewSpec(size=64, erase_prob=0.5))
    assert [view_digest(view) for view in views] == [
        0xB6A2AFEC,
        0xDF4302D5,
        0x884D49EE,
        0xD46007FF,
        0x3B42711C,
        0x76AD50A1,
    ]


def test_this_machine_renders_as_defined() -> None:
    assert "views are rendered" in check_renderers()


def test_without_a_renderer_that_makes_the_defined_bytes_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    with pytest.raises(RendererError, match=r"other bytes for .*Equalize 0; views are rendered by Pillow"):
        check_renderers(fixed_digests() | {"Equalize 0": 1})


def test_self_check_covers_every_operation() -> None:
    exercised = {name.split()[0] for name in fixed_digests()}
    assert {operation for operation, _ in OPERATION_OF.values()} <= exercised
