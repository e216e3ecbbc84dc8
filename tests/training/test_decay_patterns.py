"""Models may exempt parameters from weight decay by pattern."""

from __future__ import annotations

import pytest
import timm

from tests.models.shells import shells
from tinyvit_kd.training.optim import parameter_groups


def test_a_pattern_exempts_every_parameter_that_it_matches() -> None:
    with shells():
        model = timm.create_model("xcit_nano_12_p16_224", depth=1)
    if "pos_embed.*" not in model.no_weight_decay():
        pytest.skip("this timm names parameters only")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"] for group in parameter_groups(model, 0.05, 1.0) for p in group["params"]
    }
    matched = [name for name in decays if name.startswith("pos_embed.")]
    assert matched
    assert [decays[name] for name in matched] == [0.0] * len(matched)
    assert decays["blocks.0.attn.qkv.weight"] == 0.05
