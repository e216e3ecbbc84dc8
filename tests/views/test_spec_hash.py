"""The identity of a view spec and the grammar of its RandAugment policy."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.data.auto_augment import rand_augment_transform

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.views.randaugment import parse_auto_augment
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

POLICIES = [
    "rand",
    "rand-m9-mstd0.5-inc1",
    "rand-m9-mstd0.5-inc0",
    "rand-m6-n3-mstd0.5",
    "rand-mstd1-tweights",
    "rand-t3a",
    "rand-m9-t3aw-n4-p0.3",
    "rand-n3-m15-mmax20-mstd101",
    "rand-mmax0-p1",
]

REFUSED = {
    "another policy": "original-mstd0.5",
    "augmix": "augmix-m5-w4-d2",
    "empty": "",
    "unknown key": "rand-q9",
    "unknown set": "rand-tall",
    "no number": "rand-inc",
    "fraction where whole": "rand-m9.5",
    "two points": "rand-p0.5.5",
    "repeated": "rand-m9-m8",
    "sign": "rand-m-9",
    "probability": "rand-p2",
    "more than there are": "rand-n16-tweights",
    "spaces": "rand-m9 -n2",
}


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


@pytest.mark.parametrize("text", POLICIES)
def test_a_policy_has_the_same_meaning_as_in_timm(text: str) -> None:
    ours, theirs = parse_auto_augment(text), rand_augment_transform(text, {})
    operation = theirs.ops[0]
    assert ours.operations == tuple(each.name for each in theirs.ops)
    assert (ours.layers, ours.magnitude, ours.probability) == (
        theirs.num_layers,
        operation.magnitude,
        operation.prob,
    )
    assert ours.magnitude_std == operation.magnitude_std
    assert ours.magnitude_max == (operation.magnitude_max or 10)
    if ours.weights is None:
        assert theirs.choice_weights is None
    else:
        np.testing.assert_array_equal(np.array(ours.weights) / sum(ours.weights), theirs.choice_weights)


def test_a_huge_magnitude_std_is_uniform() -> None:
    assert parse_auto_augment("rand-mstd101").magnitude_std == math.inf


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_policy_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_auto_augment(text)
    assert caught.value.where.endswith(text)
    assert caught.value.expected


@given(st.text(alphabet="rand-mnpitc0123456789.w", max_size=20))
def test_any_text_is_a_policy_or_raises_a_config_error(text: str) -> None:
    try:
        parse_auto_augment("rand-" + text)
    except ConfigError:
        return
