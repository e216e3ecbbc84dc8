"""``config.json`` beside a model file, read: what timm, or whoever saved a folder for it, says of the network there.

A folder may come from anybody; what its description may ask for is what a card may (``models.plain_card``).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.eval_views import known_views
from tinyvit_kd.models.families import SAID_ELSEWHERE
from tinyvit_kd.models.input_size import side_of
from tinyvit_kd.models.known_network import distinct_names
from tinyvit_kd.models.modelfile import ModelCard, file_beside
from tinyvit_kd.models.plain_card import require_plain
from tinyvit_kd.models.timm_config import TIMM_CONFIG
from tinyvit_kd.runtime.files import LARGEST_JSON
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable

LABEL_NAMES = "label_names"
_DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError)  # whatever a stranger wrote


def read_timm_config(model: Path) -> ModelCard | None:
    """The card that ``config.json`` beside a model file stands for; None if there is none, or it is not timm's.

    Raises:
        CheckpointError: it is damaged, or asks for more than one of timm's networks and plain arguments of it.
    """
    file = file_beside(model, TIMM_CONFIG)
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        described = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(described, dict) or not isinstance(described.get("architecture"), str):
            note(f"{file}: names no architecture as timm's do, and is not used")
            return None
        card = _card(described, file)
    except _DAMAGE as error:
        raise CheckpointError(
            "the description beside a model file cannot be read",
            where=str(file),
            found=printable(_told(error)),
            expected="a config.json as timm writes it: architecture, num_classes, model_args, pretrained_cfg",
            fix="fetch or write it again, or move it away and name the network in the recipe",
        ) from None
    require_plain(card.spec, str(file))
    return card


def _card(described: dict[str, Any], file: Path) -> ModelCard:
    own = described.get("pretrained_cfg", described)  # older ones have all fields side by side
    arguments = {name: value for name, value in described.get("model_args", {}).items() if value is not None}
    input_size = own.get("input_size") or [3, 224, 224]
    if (channels := arguments.get("in_chans", input_size[0])) != 3:
        raise ValueError(f"its network takes images of {channels} channels, and views have 3")
    num_classes = int(described.get("num_classes", own.get("num_classes", 1000)))
    if num_classes < 0:
        raise ValueError(f"its network has {num_classes} classes")
    names = distinct_names(described.get(LABEL_NAMES, own.get(LABEL_NAMES)), num_classes, f"{file}: its {LABEL_NAMES}")
    kwargs = {name: value for name, value in arguments.items() if name not in SAID_ELSEWHERE}
    spec = ModelSpec(name=described["architecture"], kwargs=kwargs)
    card = ModelCard(
        architecture=spec.model_dump(mode="json"),
        num_classes=num_classes,
        image_size=side_of(arguments.get("img_size", input_size[-2:])),
        mean=_three(own.get("mean"), IMAGENET_DEFAULT_MEAN),
        std=_three(own.get("std"), IMAGENET_DEFAULT_STD, above=0),
        class_name=LABEL_NAMES if names is not None else None,
        class_ids=names,
        **known_views(own, str(file)),
    )
    _ = card.eval_views  # that its size is one of an image
    return card


def _three(values: Any, default: tuple[float, float, float], above: float = -math.inf) -> tuple[float, float, float]:
    red, green, blue = default if values is None else map(float, values)
    if not all(above < value < math.inf for value in (red, green, blue)):
        raise ValueError(f"its input cannot be normalised by {values}")
    return red, green, blue


def _told(error: Exception) -> str:
    if isinstance(error, ValidationError):
        told = (f"{'.'.join(map(str, each['loc']))} is {each['input']!r}: {each['msg']}" for each in error.errors())
        return f"what it says of its network makes no sense: {'; '.join(told)[:400]}"
    return first_line_of(error)
