"""How timm says in which view a network is scored, as far as views can be rendered so here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable

_FIELDS = {"crop_mode": "mode", "crop_pct": "crop_pct", "interpolation": "interpolation"}  # timm's name: ours


def known_views(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a card that say how images are resized and cropped; a line tells of what cannot be rendered so.

    Args:
        config: with timm's fields: a ``pretrained_cfg``, or what ``resolve_model_data_config`` returns.
        where: they were found, for messages.
    """
    found = {}
    for name, field in _FIELDS.items():
        value = config.get(name)
        if value is None:
            continue
        try:
            EvalViewSpec.model_validate({field: value})
        except ValidationError:
            note(
                f"{where}: images are scored with {name} {printable(str(value))}, which cannot be rendered here: "
                f"views.{field} sets another"
            )
        else:
            found[name] = value
    return found
