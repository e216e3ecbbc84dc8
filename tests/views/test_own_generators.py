"""Generators that belong to a transform are seeded by its own method, alone or deep in a recipe."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.views.test_transform import SEEDS, digests, rendered
from tests.views.with_own_generators import HERE, Noise
from tinyvit_kd.config.view_spec import TransformConfig, ViewSpec
from tinyvit_kd.errors import ConfigError, TransformError
from tinyvit_kd.views.spec_hash import view_spec_hash
from tinyvit_kd.views.transform import build_transform, forget_built

NOISE = {"call": f"{HERE}.Noise"}
TORCH_NOISE = {"call": f"{HERE}.TorchNoise", "seed_with": "generator.manual_seed"}
SEEDED: dict[str, dict[str, Any]] = {
    "by a method of the usual name": NOISE,
    "by a method of a recipe's": TORCH_NOISE,
    "deep in a recipe": {"call": f"{HERE}.InTurn", "kwargs": {"parts": [TORCH_NOISE, NOISE]}},
    "by the outermost": {"call": f"{HERE}.Noise", "args": [{"name": f"{HERE}.fitted"}]},
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_view_is_the_same_in_every_order(name: str) -> None:
    first = rendered(SEEDED[name])
    assert len({view.tobytes() for view in first}) == len(SEEDS)
    forget_built()
    for seed in reversed(SEEDS):
        assert np.array_equal(rendered(SEEDED[name], [seed])[0], first[seed])


def test_each_part_has_a_seed_of_its_own() -> None:
    views = rendered({"call": f"{HERE}.Beside", "kwargs": {"parts": [NOISE, NOISE]}}, range(32))
    assert (views[:, 0, 0, 0] != views[:, 0, 0, 1]).sum() > 28


def test_what_can_be_seeded_seeds_its_parts() -> None:
    config = TransformConfig.model_validate({"call": f"{HERE}.Noise", "args": [NOISE]})
    assert len(build_transform(config).seedings) == 1
    config = TransformConfig.model_validate({"call": f"{HERE}.InTurn", "args": [[NOISE, NOISE, TORCH_NOISE]]})
    assert len(build_transform(config).seedings) == 3
    assert "and its own" in build_transform(config).generators


def test_a_transform_that_draws_from_no_generators_of_its_own_is_not_seeded() -> None:
    config = TransformConfig(name="tests.views.transforms.fitted")
    assert build_transform(config).seedings == ()
    assert "its own" not in build_transform(config).generators


def test_an_image_in_a_dictionary_is_a_view() -> None:
    plain = rendered({"name": "tests.views.transforms.fitted"}, [0])
    assert np.array_equal(rendered({"name": f"{HERE}.as_dictionary"}, [0]), plain)


def test_a_class_with_such_a_method_may_be_an_argument() -> None:
    config = TransformConfig.model_validate({"call": "functools.partial", "args": [{"name": f"{HERE}.Noise"}]})
    make: Any = build_transform(config).call
    assert isinstance(make(), Noise)


def test_specs_without_the_method_are_what_they_were() -> None:
    views = {"size": 16, "transform": NOISE}
    spec = ViewSpec.model_validate(views)
    assert spec.model_dump()["transform"] == NOISE | {"args": [], "kwargs": {}, "name": None}
    other = ViewSpec.model_validate(views | {"transform": NOISE | {"seed_with": "set_random_seed"}})
    assert view_spec_hash(spec) == view_spec_hash(ViewSpec.model_validate(views)) != view_spec_hash(other)
    assert ViewSpec.model_validate(other.model_dump(mode="json")) == other
    assert digests(NOISE) == digests(NOISE | {"seed_with": "set_random_seed"})


@pytest.mark.parametrize(
    ("transform", "found"),
    [
        ({"call": f"{HERE}.TakesNoSeed"}, "set_random_seed of TakesNoSeed: TypeError"),
        (NOISE | {"seed_with": "seed_"}, "seed_ of Noise: AttributeError: .*'seed_'"),
        (TORCH_NOISE | {"seed_with": "generator"}, "generator of TorchNoise: TypeError"),
        (TORCH_NOISE | {"seed_with": "generators.manual_seed"}, "AttributeError: .*'generators'"),
        ({"name": f"{HERE}.as_dictionary", "seed_with": ""}, "AttributeError"),
    ],
    ids=["takes no seed", "no such method", "no method", "no such attribute", "no name"],
)
def test_a_method_that_does_not_seed_is_a_mistake_in_the_recipe(transform: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match="cannot be seeded by its own method") as caught:
        build_transform(TransformConfig.model_validate(transform))
    assert re.search(found, caught.value.found), caught.value.found
    nested = {"call": f"{HERE}.InTurn", "kwargs": {"parts": [transform]}}
    with pytest.raises(ConfigError, match="cannot be seeded by its own method") as caught:
        build_transform(TransformConfig.model_validate(nested))
    assert caught.value.where.startswith("views.transform.kwargs.parts.0: ")


def test_a_dictionary_without_an_image_is_refused() -> None:
    with pytest.raises(TransformError, match="does not return a view") as caught:
        rendered({"name": f"{HERE}.as_another_dictionary"})
    assert caught.value.found == "dict"
