"""By seeding, any other transform is a function of image and seed; one that is not is refused by name."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.views.images import encoded, sample_image
from tests.views.transforms import SIZE, SOUND, WithASeededGenerator, fitted, timm, v2
from tinyvit_kd.config.view_spec import TransformConfig, ViewSpec
from tinyvit_kd.errors import BadImageError, ConfigError, TransformError
from tinyvit_kd.views.render import render_views, view_digest
from tinyvit_kd.views.transform import build_transform, forget_built, transform_versions

IMAGE = encoded(sample_image(50, 40))
SEEDS = range(8)
HERE = "tests.views.transforms"
UInt8 = npt.NDArray[np.uint8]


def spec_of(transform: dict[str, Any]) -> ViewSpec:
    return ViewSpec.model_validate({"size": SIZE, "transform": transform})


def rendered(transform: dict[str, Any], seeds: Sequence[int] = SEEDS, image: bytes = IMAGE) -> UInt8:
    return render_views(image, seeds, spec_of(transform))


def digests(transform: dict[str, Any]) -> list[int]:
    return [view_digest(view) for view in rendered(transform)]


def drawn() -> tuple[float, float, float]:
    """The next number from each generator."""
    return random.gauss(0, 1), np.random.normal(), torch.randn(()).item()


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[int]]:
    """Digests of every sound transform's views from another process, which hashes strings differently."""
    code = "import json; from tests.views.test_transform import SOUND, digests\n"
    code += "print(json.dumps({name: digests(each) for name, each in SOUND.items()}))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, list[int]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("name", SOUND)
def test_a_view_is_the_same_in_every_process_and_order(name: str, elsewhere: dict[str, list[int]]) -> None:
    transform = SOUND[name]
    first = rendered(transform)
    assert len({view_digest(view) for view in first}) > len(SEEDS) / 2
    assert [view_digest(view) for view in first] == elsewhere[name]
    drawn()
    forget_built()
    for seed in reversed(SEEDS):
        assert np.array_equal(rendered(transform, [seed])[0], first[seed])


@pytest.mark.parametrize("transform", [*SOUND.values(), {"name": f"{HERE}.failing"}], ids=[*SOUND, "failing"])
@pytest.mark.usefixtures("seeded")
def test_the_generators_are_restored(transform: dict[str, Any]) -> None:
    drawn()  # leaves the second of a pair of normal draws cached
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = [drawn() for _ in range(3)]
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    forget_built()  # so that building it is tested, too
    try:
        rendered(transform)
    except TransformError:
        assert transform["name"] == f"{HERE}.failing"
    assert [drawn() for _ in range(3)] == expected


def test_each_generator_has_its_own_hash_of_the_seed() -> None:
    colours = rendered({"name": f"{HERE}.stripes"}, range(64))[:, :, 1, 1].astype(float)
    assert colours.std(axis=0).min() > 40
    assert np.abs(np.corrcoef(colours.T) - np.eye(3)).max() < 0.4


def test_a_transform_may_change_the_image_that_it_is_given() -> None:
    views = rendered({"name": f"{HERE}.blackening"})
    assert (views[:, :, 0, 0] == views[0, :, 0, 0]).all()
    assert views[0, :, 0, 0].any()


def test_random_choices_while_a_transform_is_built_are_the_same_each_time() -> None:
    shifts = set()
    for _ in range(3):
        drawn()
        forget_built()
        shifts.add(int(rendered({"call": f"{HERE}.DrawnOnce"}, [0])[0, 0, 0, 0]))
    assert len(shifts) == 1


def test_a_transform_is_built_once() -> None:
    config = TransformConfig(call=f"{HERE}.WithASeededGenerator")
    assert build_transform(config) is build_transform(config.model_copy())
    assert isinstance(build_transform(config).call, WithASeededGenerator)


def test_images_planes_and_tensors_of_8_bits_are_views() -> None:
    expected = rendered({"name": f"{HERE}.fitted"}, [0])
    assert np.array_equal(expected[0], np.asarray(fitted(sample_image(50, 40))).transpose(2, 0, 1))
    for name in ("as_rows", "as_planes", "as_tensor", "as_torchvision_image"):
        assert np.array_equal(rendered({"name": f"{HERE}.{name}"}, [0]), expected), name
    grey = rendered({"name": f"{HERE}.as_grey"}, [0])[0]
    assert (grey == grey[0]).all()


def test_views_are_written_to_the_given_array() -> None:
    out = np.zeros((2, 3, SIZE, SIZE), np.uint8)
    assert render_views(IMAGE, [3, 4], spec_of(SOUND["AugMix"]), out) is out
    assert np.array_equal(out, rendered(SOUND["AugMix"])[3:5])


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        ({"name": f"{HERE}.as_floats"}, r"Tensor torch.float32.*leave out .* normali[sz]ation"),
        (timm(normalize=True), r"Tensor torch.float32.*normalize: false"),
        ({"name": f"{HERE}.as_deep_image"}, r"Image F"),
        ({"name": f"{HERE}.too_large"}, r"Image \[16, 17, 3\].*views.size"),
        (timm(input_size=20), r"Tensor \[3, 20, 20\].*views.size"),
        ({"name": f"{HERE}.nothing"}, "NoneType"),
    ],
    ids=["floats", "normalised", "deep image", "size", "size of a tensor", "nothing"],
)
def test_a_result_that_is_not_a_view_is_refused(transform: dict[str, Any], found: str) -> None:
    with pytest.raises(TransformError, match="does not return a view") as caught:
        rendered(transform)
    assert re.search(found, str(caught.value)), str(caught.value)


def test_an_error_in_a_transform_is_reported_with_its_location() -> None:
    with pytest.raises(TransformError) as caught:
        rendered({"name": f"{HERE}.failing"})
    assert isinstance(caught.value.__cause__, LookupError)
    assert caught.value.found.startswith("LookupError: no such colour (")
    assert "transforms.py:" in caught.value.found
    assert caught.value.where == f"views.transform: {HERE}.failing"


def test_an_image_that_cannot_be_decoded_is_not_an_error_of_the_transform() -> None:
    with pytest.raises(BadImageError):
        rendered({"name": f"{HERE}.failing"}, image=b"no image")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such package": ({"call": "no_such_package.thing"}, "views.transform: no_such_package.thing.*No module named"),
    "no such attribute": ({"name": "torchvision.transforms.v2.Kompose"}, "has no attribute 'Kompose'"),
    "no dotted name": ({"name": "not a name!"}, "ValueError"),
    "wrong argument": (timm(colour=1), "views.transform: timm.data.create_transform.*TypeError.*colour"),
    "not to be called": ({"name": "torch.uint8"}, "cannot be called.*dtype"),
    "a tuple of transforms": (timm(separate=True), "cannot be called.*tuple"),
    "nested name": (
        v2("Compose", transforms=[v2("PILToTensor"), v2("Missing")]),
        r"views.transform.kwargs.transforms.1: torchvision.transforms.v2.Missing",
    ),
    "nested key": (v2("Compose", transforms=[{"call": "a.b", "arguments": 1}]), "arguments: unknown key"),
    "nested call": (v2("Compose", transforms=[v2("Resize", size="wide")]), r"kwargs.transforms.0: .*Resize"),
}


@pytest.mark.parametrize(("transform", "message"), WRONG.values(), ids=WRONG)
def test_a_transform_that_cannot_be_built_is_a_mistake_in_the_recipe(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_transform(TransformConfig.model_validate(transform))
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_module_of_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "views_here.py").write_text(f"from {HERE} import fitted\n")
    (tmp_path / "broken_views_here.py").write_text("import a_missing_package\n")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(rendered({"name": "views_here.fitted"}), rendered({"name": f"{HERE}.fitted"}))
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        build_transform(TransformConfig(name="broken_views_here.fitted"))
    assert "a_missing_package" in caught.value.found
    assert "broken_views_here.py:1" in caught.value.found


def test_versions_name_every_library_that_makes_the_views() -> None:
    pipeline = v2("Lambda", lambd={"name": "scipy.ndimage.median_filter"})
    found = transform_versions(spec_of(v2("Compose", transforms=[pipeline])))
    assert found.keys() == {"python", "torch", "torchvision", "timm", "numpy", "scipy"}
    assert transform_versions(ViewSpec()) == {}
