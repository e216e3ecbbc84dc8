"""Evaluation views of JPEG files that are decoded natively are the reference's, and so are errors."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.native_equality import DAMAGED_EVALUATIONS, EVALUATIONS, PROCESSORS, Count, native_eval
from benchmarks.native_equality import reference_eval_or_hole as reference_or_hole
from benchmarks.photos import damaged, encodings, load
from fuzz.corpus import turned_sampling
from tests.conftest import REPOSITORY
from tests.views.conftest import NEEDS_NATIVE, NEEDS_REFERENCE
from tests.views.images import encoded, sample_image
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import BadImageError, ImageTooLargeError
from tinyvit_kd.views import native
from tinyvit_kd.views.render import reference_eval, render_eval

pytestmark = [NEEDS_NATIVE, NEEDS_REFERENCE]

OURS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "4:4:0": {"subsampling": "4:2:2"},  # and turned
    "grey": {},
    "coarse": {"quality": 3},
    "fine": {"quality": 100, "optimize": True},
    "restarts in a row": {"restart_marker_blocks": 3},
    "restarts at rows": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
}
PILLOWS: dict[str, dict[str, Any]] = {"CMYK": {}, "PNG": {}, "WEBP": {}, "orientation": {}}
LENGTHS = st.one_of(st.integers(1, 90), st.sampled_from([1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 300, 700]))
SPECS = st.builds(
    EvalViewSpec,
    size=st.sampled_from([1, 2, 15, 16, 17, 32, 48, 75]),
    mode=st.sampled_from(["center", "squash"]),
    crop_pct=st.one_of(st.none(), st.floats(0.05, 1.0)),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    max_pixels=st.sampled_from([89_478_485, 89_478_485, 20_000]),
)


def jpeg(kind: str, width: int, height: int, seed: int = 0) -> bytes:
    """A file of a kind; 4:4:0 ones are as wide as high."""
    image = sample_image(width, width if kind == "4:4:0" else height, seed)
    if kind in ("grey", "CMYK"):
        image = image.convert("L" if kind == "grey" else kind)
    if kind == "orientation":
        exif = Image.Exif()
        exif[0x0112] = 6
        return encoded(image, "JPEG", exif=exif)
    file = encoded(image, "JPEG" if kind not in ("PNG", "WEBP") else kind, **OURS.get(kind, {}))
    return turned_sampling(file) if kind == "4:4:0" else file


def outcome(render: Any, file: bytes, spec: EvalViewSpec) -> tuple[bytes | None, str, str]:
    """The view, or what the error says."""
    try:
        return render(file, spec).tobytes(), "", ""
    except BadImageError as error:
        return None, type(error).__name__, str(error)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*OURS, *PILLOWS]), LENGTHS, LENGTHS, SPECS, st.integers(0, 3))
def test_views_of_any_shape_and_kind_equal_the_reference(
    kind: str, width: int, height: int, spec: EvalViewSpec, seed: int
) -> None:
    file = jpeg(kind, width, height, seed)
    expected = outcome(reference_eval, file, spec)
    assert outcome(render_eval, file, spec) == expected
    for processor in filter(native.supports, PROCESSORS):
        found = native_eval(file, spec, processor)
        assert found is None or found.tobytes() == expected[0], processor
        assert found is None or kind in OURS or kind == "orientation"
        assert found is not None or expected[0] is None or kind not in OURS


@pytest.mark.parametrize("kind", OURS)
def test_ordinary_files_are_decoded_natively_and_others_by_pillow(kind: str) -> None:
    for spec in (EvalViewSpec(size=32), EvalViewSpec(size=24, mode="squash", interpolation="bilinear")):
        assert native_eval(jpeg(kind, 70, 50), spec) is not None
        for other in set(PILLOWS) - {"orientation"}:
            assert native_eval(jpeg(other, 70, 50), spec) is None


@pytest.mark.parametrize("name", EVALUATIONS)
def test_views_of_photos_equal_the_reference(name: str, shared_data: Path) -> None:
    draw, count = random.Random(name), Count()
    for photo in draw.sample(load(shared_data / "photos"), 8):
        for file in (photo, *encodings(photo)):
            expected = reference_eval(file, EVALUATIONS[name])[None]
            for processor in filter(native.supports, PROCESSORS):
                count.add(native_eval(file, EVALUATIONS[name], processor), expected, 1)
    assert count.compared >= 60
    assert count.differing == 0


@pytest.mark.parametrize(
    "size", [(3000, 2000), (2000, 3100), (16_384, 40), (40, 16_384), (16_385, 3), (5, 17_000)], ids=str
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_views_of_large_and_of_thin_images_equal_the_reference(size: tuple[int, int], interpolation: Any) -> None:
    image = Image.radial_gradient("L").resize(size).convert("RGB")
    file = encoded(image, "JPEG", subsampling="4:2:0")
    for spec in (
        EvalViewSpec(size=224, mode="squash", interpolation=interpolation),
        EvalViewSpec(size=16, interpolation=interpolation),
        EvalViewSpec(size=500, crop_pct=0.2, mode="squash", interpolation=interpolation),
    ):
        np.testing.assert_array_equal(render_eval(file, spec), reference_eval(file, spec), err_msg=str(spec))


def test_damaged_files_become_the_same_views_or_errors(shared_data: Path) -> None:
    draw, count = random.Random(5), Count()
    photos = load(shared_data / "photos")
    sources = [*photos[:3], *(kind for photo in photos[::40] for kind in encodings(photo))]
    for _ in range(1200):
        file, spec = damaged(draw.choice(sources), draw), draw.choice(DAMAGED_EVALUATIONS)
        count.add(native_eval(file, spec), reference_or_hole(file, spec), 1)
        if count.compared % 4 == 0:
            assert outcome(render_eval, file, spec) == outcome(reference_eval, file, spec)
    assert count.compared > 100
    assert count.given_up > 100
    assert count.differing == 0


def test_odd_images_become_the_same_views_or_errors(shared_data: Path) -> None:
    files = load(shared_data / "odd_images")
    views = [outcome(render_eval, file, DAMAGED_EVALUATIONS[i % 3]) for i, file in enumerate(files)]
    assert views == [outcome(reference_eval, file, DAMAGED_EVALUATIONS[i % 3]) for i, file in enumerate(files)]
    assert sum(native_eval(file, DAMAGED_EVALUATIONS[0]) is not None for file in files) > 50
    assert sum(view is None for view, *_ in views) > 20


def test_the_rows_above_and_below_a_view_are_not_decoded_but_their_damage_is_noticed() -> None:
    spec = EvalViewSpec(size=8, crop_pct=0.5)
    file = encoded(sample_image(64, 800), "JPEG")
    assert native_eval(file, spec) is not None
    for cut in (file[:-2], file[: len(file) * 9 // 10]):
        assert native_eval(cut, spec) is None
        assert outcome(render_eval, cut, spec) == outcome(reference_eval, cut, spec)


def test_images_above_the_limit_are_the_references_errors() -> None:
    file, thin = encoded(sample_image(40, 30), "JPEG"), encoded(Image.new("RGB", (2, 3000)), "JPEG")
    for each, limit in ((file, 1199), (thin, 60_000)):
        spec = EvalViewSpec(size=16, max_pixels=limit)
        assert native_eval(each, spec) is None
        with pytest.raises(ImageTooLargeError):
            render_eval(each, spec)
    # The error is of what comes first in the reference: a file that is cut short has no view of any size.
    spec = EvalViewSpec(size=16, max_pixels=60_000)
    assert outcome(render_eval, thin[:-60], spec) == outcome(reference_eval, thin[:-60], spec)
    assert "cut short" in outcome(render_eval, thin[:-60], spec)[2]


@pytest.mark.parametrize("kind", ["4:2:0", "CMYK"], ids=["native", "decoded by Pillow"])
def test_a_view_can_be_written_to_a_row_of_a_batch(kind: str) -> None:
    file, spec = jpeg(kind, 70, 50), EvalViewSpec(size=20)
    for render in (render_eval, reference_eval):
        batch = np.full((3, 3, 20, 20), 9, np.uint8)
        assert render(file, spec, out=batch[1]).base is batch
        np.testing.assert_array_equal(batch[1], reference_eval(file, spec))
        assert set(batch[[0, 2]].flat) == {9}


@pytest.mark.parametrize("out", [np.empty((3, 20, 21), np.uint8), np.empty((3, 20, 20), np.int16)], ids=["wide", "16"])
def test_an_array_that_cannot_take_the_view_is_refused(out: npt.NDArray[np.uint8]) -> None:
    for kind in ("4:2:0", "CMYK"):
        for render in (render_eval, reference_eval):
            with pytest.raises(ValueError, match="out is"):
                render(jpeg(kind, 70, 50), EvalViewSpec(size=20), out=out)


GROWTH = """
import sys
from pathlib import Path
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.views.render import reference_eval, render_eval

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

render = render_eval if sys.argv[3] == "native" else reference_eval
render(Path(sys.argv[1]).read_bytes(), EvalViewSpec())
file = Path(sys.argv[2]).read_bytes()
before = peak()
for mode in ("center", "squash"):
    render(file, EvalViewSpec(mode=mode))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("size", [(3000, 2400), (1600, 4500)], ids=["rows first", "columns first"])
def test_a_large_image_is_never_in_memory_as_a_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "small").write_bytes(jpeg("4:2:0", 300, 200))
    (tmp_path / "large").write_bytes(encoded(Image.radial_gradient("L").resize(size).convert("RGB"), "JPEG"))
    files = [str(tmp_path / name) for name in ("small", "large")]
    kib = {
        renderer: int(subprocess.check_output([sys.executable, "-c", GROWTH, *files, renderer], cwd=REPOSITORY))
        for renderer in ("native", "reference")
    }
    assert kib["native"] < 6_000  # its 7.2 million pixels take 21,600 kB
    assert kib["reference"] > 21_000
