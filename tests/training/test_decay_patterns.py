"""Models may exempt parameters from weight decay by pattern."""

from __future__ import annotations

import timm
import torch

from tinyvit_kd.training.optim import parameter_groups


def test_a_pattern_exempts_every_parameter_that_it_matches() -> None:
    with torch.device("meta"):
        model = timm.create_model("xcit_nano_12_p16_224", depth=1)
    assert "pos_embed.*" in model.no_weight_decay()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays = {
        names[id(p)]: group["weight_decay"] for group in parameter_groups(model, 0.05, 1.0) for p in group["params"]
    }
    matched = [name for name in decays if name.startswith("pos_embed.")]
    assert matched
    assert [decays[name] for name in matched] == [0.0] * len(matched)
    assert decays["blocks.0.attn.qkv.weight"] == 0.05
