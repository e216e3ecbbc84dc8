"""Pipelines of Albumentations are functions of image and seed, in every process, in any order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("albumentations", reason="Albumentations is not installed (extra albumentations)")

from tests.conftest import REPOSITORY
from tests.views.images import encoded, sample_image
from tests.views.test_transform import SEEDS, rendered, spec_of
from tests.views.transforms import SIZE
from tests.views.with_own_generators import HERE, PIPELINE, RESIZED, albumentation
from tinyvit_kd.config.view_spec import TransformConfig
from tinyvit_kd.errors import ConfigError, TransformError
from tinyvit_kd.views.render import view_digest
from tinyvit_kd.views.transform import build_transform, forget_built, transform_versions

PIPELINES: dict[str, dict[str, Any]] = {
    "pipeline": PIPELINE,
    "with a seed": PIPELINE | {"kwargs": PIPELINE["kwargs"] | {"seed": 5}},
    "one transform": albumentation("RandomResizedCrop", size=[SIZE, SIZE]),
    "given to a class": {"call": f"{HERE}.Drawing", "args": [PIPELINE]},
    "of a class's": {"call": f"{HERE}.InTurn", "args": [[{"call": f"{HERE}.Drawing", "args": [PIPELINE]}]]},
    "by its attribute": {"call": f"{HERE}.Drawing", "args": [PIPELINE], "seed_with": "pipeline.set_random_seed"},
}
LOADED = """
import json
from torch.utils.data import DataLoader
from tests.views.test_albumentations import PIPELINES
from tests.views.test_transform import digests
loader = DataLoader(list(PIPELINES.values()), batch_size=None, num_workers=1, collate_fn=digests)
print(json.dumps(dict(zip(PIPELINES, loader, strict=True))))
"""


@pytest.fixture(scope="module")
def elsewhere() -> dict[str, list[int]]:
    """Digests of all views from one of torch's loading processes, of which newer versions of Albumentations know."""
    run = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=REPOSITORY,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]), "PYTHONHASHSEED": "7"},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, list[int]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("name", PIPELINES)
def test_a_view_is_the_same_in_every_process_and_order(name: str, elsewhere: dict[str, list[int]]) -> None:
    transform = PIPELINES[name]
    first = rendered(transform)
    assert len({view_digest(view) for view in first}) == len(SEEDS)
    assert [view_digest(view) for view in first] == elsewhere[name]
    forget_built()
    for seed in reversed(SEEDS):
        assert np.array_equal(rendered(transform, [seed])[0], first[seed])


def test_a_pipeline_gets_the_image_and_gives_the_view() -> None:
    image = sample_image(SIZE, SIZE)
    (view,) = rendered(RESIZED, [0], encoded(image))
    assert np.array_equal(view, np.asarray(image).transpose(2, 0, 1))
    tensor = albumentation("Compose", transforms=[RESIZED, albumentation("ToTensorV2")])
    assert np.array_equal(rendered(tensor, [0], encoded(image))[0], view)


def test_the_parts_of_a_pipeline_draw_independently() -> None:
    flips = [albumentation(name, p=0.5) for name in ("HorizontalFlip", "VerticalFlip")]
    image = Image.new("RGB", (SIZE, SIZE))
    image.putpixel((0, 0), (255, 255, 255))
    views = rendered(albumentation("Compose", transforms=flips), range(64), encoded(image))
    corners = [int(view[0].argmax()) for view in views]
    assert set(corners) == {0, SIZE - 1, SIZE * (SIZE - 1), SIZE * SIZE - 1}
    assert max(corners.count(corner) for corner in set(corners)) < 32


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        (albumentation("Compose", transforms=[RESIZED, albumentation("Normalize")]), "ndarray float32"),
        (albumentation("Resize", height=SIZE, width=20), "ndarray [16, 20, 3]"),
        (
            albumentation("Compose", transforms=[RESIZED, albumentation("ToGray", num_output_channels=1)]),
            "ndarray [16, 16]",
        ),
    ],
    ids=["normalised", "size", "one channel"],
)
def test_a_result_that_is_not_a_view_is_refused(transform: dict[str, Any], found: str) -> None:
    with pytest.raises(TransformError, match="does not return a view") as caught:
        rendered(transform)
    assert caught.value.found.endswith(found)


def test_a_wrong_argument_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(ConfigError, match="call that builds the transform failed") as caught:
        build_transform(TransformConfig.model_validate(albumentation("RandomResizedCrop", size="wide")))
    assert "albumentations.RandomResizedCrop" in caught.value.where


def test_versions_name_what_makes_its_pixels() -> None:
    behind = {"albumentationsx", "albucore", "opencv-python-headless"}
    assert behind <= transform_versions(spec_of(PIPELINE)).keys()
    in_a_module = {"call": f"{HERE}.resized"}
    assert behind <= transform_versions(spec_of(in_a_module)).keys()


@pytest.mark.parametrize(("told", "sends"), [(None, False), ("0", True)])
def test_it_sends_nothing_unless_told_to(told: str | None, sends: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = pytest.importorskip("albumentations.core.analytics.settings")
    monkeypatch.delenv("ALBUMENTATIONS_NO_TELEMETRY", raising=False)
    if told is not None:
        monkeypatch.setenv("ALBUMENTATIONS_NO_TELEMETRY", told)
    forget_built()
    build_transform(TransformConfig.model_validate(RESIZED))
    assert settings.SettingsManager().telemetry_enabled is sends


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "albumentations"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    forget_built()
    with pytest.raises(ConfigError, match="cannot be imported") as caught:
        build_transform(TransformConfig.model_validate(PIPELINE))
    assert caught.value.fix == "pip install 'tinyvit_kd[albumentations]'"
