"""The identity of a view spec."""

from __future__ import annotations

import re
from typing import Any

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.views.spec_hash import renderer_versions, view_spec_hash

OTHER_FIELDS: list[dict[str, Any]] = [
    {"size": 225},
    {"scale": (0.09, 1.0)},
    {"ratio": (0.7, 4 / 3)},
    {"interpolation": "bilinear"},
    {"hflip": 0.4},
    {"auto_augment": None},
    {"auto_augment": None, "color_jitter": 0.4},
    {"erase_prob": 0.2},
    {"erase_mode": "rand"},
    {"erase_count": 2},
    {"mean": (0.5, 0.5, 0.5)},
    {"std": (0.5, 0.5, 0.5)},
    {"max_pixels": 1000},
    {"mixup": 0.8},
    {"cutmix": 1.0},
    {"mixup": 0.8, "cutmix": 1.0},
    {"mix_prob": 0.5, "mixup": 0.8},
    {"mix_switch_prob": 0.3, "mixup": 0.8, "cutmix": 1.0},
    {"transform": {"call": "timm.data.create_transform"}},
]
TRANSFORMS: list[dict[str, Any]] = [
    {"transform": {"call": "a.b"}},
    {"transform": {"call": "a.c"}},
    {"transform": {"name": "a.b"}},
    {"transform": {"call": "a.b", "args": [1]}},
    {"transform": {"call": "a.b", "kwargs": {"size": 1}}},
    {"transform": {"call": "a.b", "kwargs": {"size": {"call": "a.d"}}}},
    {"transform": {"call": "a.b"}, "size": 225},
    {"transform": {"call": "a.b"}, "mixup": 0.8},
    {"transform": {"call": "a.b"}, "max_pixels": 1000},
]


def test_hash_is_stable_across_processes_and_versions() -> None:
    assert view_spec_hash(ViewSpec()) == "6963829456dd49d4"


def test_every_field_changes_the_hash() -> None:
    assert {next(iter(fields)) for fields in OTHER_FIELDS} | {"color_jitter"} == set(ViewSpec.model_fields)
    hashes = [view_spec_hash(ViewSpec())] + [view_spec_hash(ViewSpec(**fields)) for fields in OTHER_FIELDS]
    assert len(set(hashes)) == len(hashes)
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in hashes)


def test_the_hash_covers_a_transform_and_the_fields_that_apply_to_it() -> None:
    hashes = [view_spec_hash(ViewSpec(**fields)) for fields in TRANSFORMS]
    assert len(set(hashes)) == len(hashes)
    first, second = ({"call": "a.b", "kwargs": dict(pairs)} for pairs in ([("c", 1), ("d", 2)], [("d", 2), ("c", 1)]))
    assert view_spec_hash(ViewSpec.model_validate({"transform": first})) == view_spec_hash(
        ViewSpec.model_validate({"transform": second})
    )


def test_a_spec_is_written_with_only_the_fields_that_have_an_effect() -> None:
    assert set(ViewSpec().model_dump()) == set(ViewSpec.model_fields) - {"transform"}
    spec = ViewSpec.model_validate(TRANSFORMS[5])
    assert ViewSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert not {"scale", "auto_augment", "erase_prob", "mean"} & set(spec.model_dump())


def test_versions_name_the_libraries_that_make_the_bytes() -> None:
    assert {"pillow", "libjpeg-turbo", "renderer"} <= set(renderer_versions())
