"""The native renderer makes the same bytes as the reference renderer, and leaves to it what it cannot judge."""

from __future__ import annotations

import random
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from benchmarks.native_equality import DAMAGED_SPEC, PROCESSORS, SPECS, Count, reference_or_hole
from benchmarks.photos import damaged, encodings, load
from tests.views.conftest import NEEDS_NATIVE, NEEDS_REFERENCE
from tests.views.images import encoded, sample_image
from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.errors import RendererError
from tinyvit_kd.views import native
from tinyvit_kd.views.params import EraseBox, Operation, ViewParams, sample_params
from tinyvit_kd.views.render import (
    decode,
    decode_for_eval,
    reference_eval,
    reference_views,
    render,
    render_eval,
    render_views,
    view_digest,
)
from tinyvit_kd.views.selfcheck import check_native, check_renderers, fixed_digests, native_digests

pytestmark = [NEEDS_NATIVE, NEEDS_REFERENCE]

SIGNS = (-1.0, 1.0)
ARGUMENTS: dict[str, list[float]] = {
    "AutoContrast": [0],
    "Equalize": [0],
    "Invert": [0],
    "Rotate": [
        0,
        90,
        -90,
        180,
        270,
        360,
        45,
        *(sign * 30 * m / 10 for sign in SIGNS for m in (0.01, 1, 4.4, 9, 10, 15)),
    ],
    "ShearX": [0, *(sign * 0.03 * m for sign in SIGNS for m in (0.001, 1, 4.4, 9, 10, 33.4))],
    "ShearY": [0, *(sign * 0.03 * m for sign in SIGNS for m in (0.001, 1, 4.4, 9, 10, 33.4))],
    "TranslateX": [0, 0.5, 1, -1, 2, *(sign * 0.045 * m for sign in SIGNS for m in (0.001, 1, 4.4, 9, 10))],
    "TranslateY": [0, 0.5, 1, -1, 2, *(sign * 0.045 * m for sign in SIGNS for m in (0.001, 1, 4.4, 9, 10))],
    "Posterize": [-1, 0, 1, 2, 3, 4, 7, 8, 9],
    "Solarize": [0, 1, 26, 127, 128, 255, 256],
    "SolarizeAdd": [0, 1, 50, 110, 128, 200],
    "Color": [0, 0.1, 0.5, 0.999, 1, 1.001, 1.81, 1.9, 3],
    "Contrast": [0, 0.1, 0.5, 0.999, 1, 1.001, 1.81, 1.9, 3],
    "Brightness": [0, 0.1, 0.5, 0.999, 1, 1.001, 1.81, 1.9, 3],
    "Sharpness": [0, 0.1, 0.5, 0.999, 1, 1.001, 1.81, 1.9, 3],
    "GaussianBlur": [0, 0.1, 0.5, 1, 1.7, 2, 6.5, 40],
}
IMAGES = {
    "noise": sample_image(53, 47),
    "black": Image.new("RGB", (9, 9)),
    "flat": Image.new("RGB", (12, 7), (9, 128, 255)),
    "gradient": Image.linear_gradient("L").convert("RGB"),
    "two levels": Image.fromarray(
        (np.indices((40, 33)).sum(0) % 2 * np.array([[[255]], [[1]], [[77]]])).T.astype(np.uint8)
    ),
    "one pixel": Image.new("RGB", (1, 1), (3, 4, 5)),
    "thin": sample_image(200, 2),
}
SIZES = [(1, 1), (2, 300), (16, 16), (31, 33), (64, 64), (65, 17), (90, 200), (200, 90), (130, 300), (300, 299)]


@pytest.fixture(params=PROCESSORS)
def processor(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not native.supports(name):
        pytest.skip(f"this machine, or this build, has no {name}")
    return name


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> list[bytes]:
    return load(shared_data / "photos")


def require_equal(image: Image.Image, params: ViewParams, spec: ViewSpec, processor: str) -> None:
    view = native.render_image(image, params, spec, processor)
    assert view is not None, params
    np.testing.assert_array_equal(view, render(image, params, spec), err_msg=str(params))


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_operations_equal_the_reference_on_drawn_images(name: str, interpolation: str, processor: str) -> None:
    for size in (1, 2, 3, 24, 37):
        spec = ViewSpec.model_construct(**dict(ViewSpec(interpolation=interpolation)) | {"size": size})
        for image in IMAGES.values():
            for value in ARGUMENTS[name]:
                params = ViewParams((0, 0, *image.size), False, (Operation(name, value),), ())
                require_equal(image, params, spec, processor)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_operations_equal_the_reference_on_photos(name: str, photos: list[bytes], processor: str) -> None:
    draw = random.Random(name)
    for value in ARGUMENTS[name]:
        image = decode(draw.choice(photos), 10**8)
        operations = (Operation(name, value), Operation("Rotate", draw.uniform(-30, 30)))
        params = ViewParams((0, 0, *image.size), draw.random() < 0.5, operations[: draw.randint(1, 2)], ())
        require_equal(image, params, ViewSpec(size=128), processor)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_crops_of_any_shape_equal_the_reference(interpolation: str, processor: str) -> None:
    for size in (1, 16, 30, 64):
        spec = ViewSpec.model_construct(**dict(ViewSpec(interpolation=interpolation)) | {"size": size})
        for width, height in SIZES:
            image = sample_image(width, height)
            inner = (width // 5, height // 3, width - width // 4, height - height // 3)
            for left, top, right, bottom in ((0, 0, width, height), inner):
                for flip in (False, True):
                    crop = (left, top, max(1, right - left), max(1, bottom - top))
                    require_equal(image, ViewParams(crop, flip, (), ()), spec, processor)


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_erased_boxes_equal_the_reference(mode: str, processor: str) -> None:
    spec = ViewSpec.model_construct(**dict(ViewSpec(size=32)) | {"erase_mode": mode})
    boxes = (EraseBox(0, 0, 32, 20, (1 << 18) - 100), EraseBox(3, 7, 5, 9, 12_345), EraseBox(31, 31, 1, 1, 0))
    for count in range(4):
        require_equal(sample_image(40, 40), ViewParams((0, 0, 40, 40), False, (), boxes[:count]), spec, processor)


@pytest.mark.parametrize("name", SPECS)
def test_views_of_photos_equal_the_reference(name: str, photos: list[bytes], processor: str) -> None:
    draw, count = random.Random(name), Count()
    for photo in draw.sample(photos, 12):
        for image in (photo, *encodings(photo)):
            seeds = [draw.randrange(2**32)]
            views = native.render_views(image, seeds, SPECS[name], processor)
            count.add(views, reference_views(image, seeds, SPECS[name]), 1)
    assert count.compared > 80
    assert count.differing == 0


def test_views_of_one_decoding_equal_views_one_by_one(photos: list[bytes]) -> None:
    spec, seeds = ViewSpec(size=64), [5, 2**32 - 1, 0, 5, 77]
    for photo in photos[:5]:
        together = native.render_views(photo, seeds, spec)
        assert together is not None
        np.testing.assert_array_equal(together, reference_views(photo, seeds, spec))


def test_damaged_files_become_the_same_views_or_holes_as_in_the_reference(
    photos: list[bytes], shared_data: Path
) -> None:
    draw, count = random.Random(0), Count()
    sources = [
        *photos[:3],
        *(kind for photo in photos[::50] for kind in encodings(photo)),
        *load(shared_data / "odd_images"),
    ]
    for _ in range(2500):
        file, seeds = damaged(draw.choice(sources[-400:]), draw), [draw.randrange(2**32)]
        count.add(native.render_views(file, seeds, DAMAGED_SPEC), reference_or_hole(file, seeds), 1)
    assert count.compared > 200
    assert count.differing == 0


def test_odd_images_become_the_same_views_or_holes_as_in_the_reference(shared_data: Path) -> None:
    count = Count()
    for file in load(shared_data / "odd_images"):
        count.add(native.render_views(file, (1, 2), DAMAGED_SPEC), reference_or_hole(file, (1, 2)), 2)
    assert count.compared > 50
    assert count.differing == 0


@pytest.mark.parametrize("cut", ["inside the scan", "before the end marker"])
def test_a_file_that_is_cut_short_behind_the_crop_is_left_to_the_reference(cut: str) -> None:
    file = encoded(sample_image(64, 400), "JPEG")
    file = file[:-2] if cut == "before the end marker" else file[: len(file) // 2]
    top = ViewSpec(size=8, scale=(0.01, 0.02), hflip=0)
    assert all(native.render_views(file, [seed], top) is None for seed in range(20))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG"])
def test_of_other_kinds_than_usual_jpeg_pillow_decodes_the_pixels_and_native_renders_them(kind: str) -> None:
    image = sample_image(90, 70)
    file = encoded(image.convert("CMYK") if kind == "JPEG" else image, kind)
    spec, seeds = ViewSpec(size=24, erase_prob=0.5), range(12)
    assert native.render_views(file, seeds, spec) is None
    decoded = decode(file, spec.max_pixels)
    params = [sample_params(seed, spec, *decoded.size) for seed in seeds]
    expected = reference_views(file, seeds, spec)
    np.testing.assert_array_equal(native.render_pixels(decoded, params, spec), expected)
    np.testing.assert_array_equal(render_views(file, seeds, spec), expected)


@pytest.mark.parametrize("size", [(16_385, 2), (2, 16_385), (65_536, 1), (1, 65_536)], ids=str)
def test_sides_that_the_decoder_of_jpeg_files_does_not_take_are_rendered_natively_from_pixels(
    size: tuple[int, int],
) -> None:
    params = ViewParams((0, 0, *size), False, (), ())
    image = Image.effect_noise(size, 90).convert("RGB")
    require_equal(image, params, ViewSpec(size=16), "")


def test_longer_sides_are_left_to_the_reference() -> None:
    params = ViewParams((0, 0, 16, 1), False, (), ())
    assert native.render_image(Image.new("RGB", (65_537, 1)), params, ViewSpec(size=16)) is None


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["center", "squash"])
def test_evaluation_views_equal_the_reference(mode: str, interpolation: str, processor: str) -> None:
    draw = random.Random(f"{mode} {interpolation}")
    for sides in [*SIZES, *((draw.randint(1, 400), draw.randint(1, 400)) for _ in range(40)), (3, 700), (700, 3)]:
        image = sample_image(*sides)
        for size, crop_pct in ((16, 0.875), (31, 1.0), (64, 0.95)):
            spec = EvalViewSpec.model_validate(
                {"size": size, "crop_pct": crop_pct, "mode": mode, "interpolation": interpolation}
            )
            file = encoded(image, "PNG")
            decoded, window = decode_for_eval(file, spec)
            found = np.empty((3, size, size), np.uint8)
            assert native.render_window(decoded, window, spec, found, processor)
            np.testing.assert_array_equal(found, reference_eval(file, spec), err_msg=f"{sides} {spec}")


def test_images_above_the_pixel_limit_are_left_to_the_reference() -> None:
    file = encoded(sample_image(20, 20), "JPEG")
    assert native.render_views(file, [1], ViewSpec(size=8, max_pixels=400)) is not None
    assert native.render_views(file, [1], ViewSpec(size=8, max_pixels=399)) is None


def test_an_operation_that_only_the_reference_has_is_left_to_it() -> None:
    params = ViewParams((0, 0, 9, 9), False, (Operation("Solarize", 3), Operation("SolarizeAdd", -3)), ())
    assert native.render_image(sample_image(9, 9), params, ViewSpec(size=8)) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"], ids=["native", "left to the reference"])
def test_views_can_be_written_to_a_slice_of_a_batch(kind: str) -> None:
    file, spec, seeds = encoded(sample_image(70, 50), kind), ViewSpec(size=20, erase_prob=0.5), [3, 2**32 - 1]
    expected = reference_views(file, seeds, spec)
    for renders in (render_views, reference_views):
        batch = np.full((4, 3, 20, 20), 9, np.uint8)
        assert renders(file, seeds, spec, out=batch[1:3]).base is batch
        np.testing.assert_array_equal(batch[1:3], expected)
        assert set(batch[[0, 3]].flat) == {9}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"], ids=["native", "left to the reference"])
@pytest.mark.parametrize(
    "out",
    [
        np.empty((1, 3, 20, 20), np.uint8),
        np.empty((2, 3, 20, 21), np.uint8),
        np.empty((2, 3, 20, 20), np.int8),
        np.empty((2, 20, 20, 3), np.uint8).transpose(0, 3, 1, 2),
        np.empty((2, 3, 20, 40), np.uint8)[..., ::2],
        np.frombuffer(bytes(2400), np.uint8).reshape(2, 3, 20, 20),
    ],
    ids=["one too few", "wider", "signed", "other order", "strided", "read-only"],
)
def test_an_array_that_cannot_take_the_views_is_refused(kind: str, out: npt.NDArray[np.uint8]) -> None:
    file, spec = encoded(sample_image(70, 50), kind), ViewSpec(size=20)
    for renders in (render_views, reference_views):
        with pytest.raises(ValueError, match="out"):
            renders(file, [1, 2], spec, out=out)


def test_threads_make_the_same_views(photos: list[bytes]) -> None:
    spec, found = ViewSpec(size=96), dict[int, list[int]]()

    def work(thread: int) -> None:
        found[thread] = [view_digest(render_views(photo, [seed], spec)[0]) for seed, photo in enumerate(photos[:40])]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [view_digest(reference_views(photo, [seed], spec)[0]) for seed, photo in enumerate(photos[:40])]
    assert list(found.values()) == [expected] * 6


def test_memory_does_not_grow(photos: list[bytes]) -> None:
    spec, draw = ViewSpec(), random.Random(0)
    files = [photos[0], photos[1], damaged(photos[0], draw), photos[2][:-2000], encodings(photos[0])[3]]
    for _ in range(60):
        render_all(files, spec)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        render_all(files, spec)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB


def render_all(files: list[bytes], spec: ViewSpec) -> None:
    for seed, file in enumerate(files):
        native.render_views(file, [seed, seed + 1], spec)


@pytest.fixture
def switched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.SWITCH, "1")
        yield patch


def test_when_switched_off_everything_is_left_to_the_reference(switched: pytest.MonkeyPatch) -> None:
    file = encoded(sample_image(40, 30), "JPEG")
    with_it = render_views(file, [1, 2], ViewSpec(size=16))
    assert "natively" in native.describe()
    switched.setenv(native.SWITCH, "0")
    assert native.render_views(file, [1, 2], ViewSpec(size=16)) is None
    assert "switched off" in native.describe()
    np.testing.assert_array_equal(render_views(file, [1, 2], ViewSpec(size=16)), with_it)


def test_if_it_is_not_built_pillow_renders(switched: pytest.MonkeyPatch) -> None:
    file = encoded(sample_image(40, 30), "JPEG")
    with_it = render_views(file, [1, 2], ViewSpec(size=16))
    switched.setattr(native, "_module", lambda: None)
    assert "not built" in native.describe()
    assert check_renderers() == native.describe()
    np.testing.assert_array_equal(render_views(file, [1, 2], ViewSpec(size=16)), with_it)


@pytest.mark.usefixtures("switched")
def test_a_native_renderer_with_other_bytes_is_switched_off() -> None:
    assert native_digests().items() <= fixed_digests().items()
    assert "natively" in check_renderers()
    line = check_native(fixed_digests() | {"Equalize 0": 1})
    assert "other bytes for Equalize 0" in line
    assert not native.is_on()


def test_a_pillow_with_other_bytes_only_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before version 13: the native renderer makes the views, and what it cannot make is no other view."""
    monkeypatch.setenv("TINYVIT_KD_REFERENCE", "1")
    expected = fixed_digests()
    monkeypatch.setattr("tinyvit_kd.views.selfcheck.fixed_digests", lambda: expected | {"resize 90x40": 1})
    line = check_renderers()
    assert "natively" in line
    assert "renders nothing" in line
    png, long = encoded(sample_image(40, 30), "PNG"), encoded(Image.new("RGB", (65_537, 1)), "PNG")
    np.testing.assert_array_equal(
        render_views(png, [1], ViewSpec(size=16)), reference_views(png, [1], ViewSpec(size=16))
    )
    render_eval(png, EvalViewSpec(size=16))
    with pytest.raises(RendererError, match="an image of 65537 x 1 pixels"):
        render_views(long, [1], ViewSpec(size=16))
    with pytest.raises(RendererError, match="an image of 65537 x 1 pixels"):
        render_eval(long, EvalViewSpec(size=16, mode="squash"))
