"""What a search's recipe refuses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contraction.planted import contract_config
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
