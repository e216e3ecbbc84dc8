"""What a search's recipe refuses, and what the shipped one can find."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.contraction.fake_trainer import FakeClock
from tests.contraction.planted import contract_config
from tests.contraction.test_space import is_not_below
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.plan import Planner
from tinyvit_kd.contraction.records import Candidate, Result
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.errors import ConfigError


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"store": {"path": "store", "follow": True}}, "store.follow is for pretrain"),
        ({"train": {"freeze_bn_stats": True}}, "candidates are trained whole"),
        ({"train": {"trainable": "head"}}, "candidates are trained whole"),
        ({"limits": {}}, "give at least one of parameters"),
    ],
)
def test_candidates_that_could_not_be_compared_are_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        contract_config(**sections)


def test_the_first_round_of_the_shipped_search_gives_up_nothing_that_the_published_student_has() -> None:
    """Else no later round could come to it: what one round gave up, none gets back."""
    config = load_recipe(ContractConfig, REPOSITORY / "configs/contraction/tiny_vit_21m_to_5m_22k.yaml")
    base, published = (shape_of(ModelSpec(name=f"tiny_vit_{size}_224"), 21841, 224) for size in ("21m", "5m"))
    costs = partial(costs_of, num_classes=21841, image_size=224)
    planner = Planner(config, Result(Candidate(base), costs(base)), costs, FakeClock())
    shapes = [result.candidate.shape for result in planner.plan(1, [base]).results]
    assert len(shapes) == config.search.candidates
    assert any(is_not_below(shape, published) for shape in shapes)
