"""The networks of the papers, to compare what a search found with."""

from __future__ import annotations

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.space import shape_of

_PUBLISHED = {
    "tiny_vit": {
        "TinyViT-5M": "tiny_vit_5m_224",
        "TinyViT-11M": "tiny_vit_11m_224",
        "TinyViT-21M": "tiny_vit_21m_224",
    },
    "vit": {
        "DeiT-Ti": "deit_tiny_patch16_224",
        "DeiT-S": "deit_small_patch16_224",
        "DeiT-B": "deit_base_patch16_224",
    },
}


def published_costs(family: str, num_classes: int, image_size: int) -> dict[str, Costs]:
    """What the published networks of a family take, by their name, with a head of these classes.

    Args:
        family: of a shape.
        num_classes: C of the head.
        image_size: side of the input, pixels.

    Raises:
        ConfigError: they do not take images of this size.
    """
    return {
        title: costs_of(shape_of(ModelSpec(name=name), num_classes, image_size), num_classes, image_size)
        for title, name in _PUBLISHED[family].items()
    }
