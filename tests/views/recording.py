"""timm's and torchvision's own transforms, with a record of the random choices that they make."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image
from timm.data.auto_augment import RandAugment, rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import str_to_pil_interp

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.views.operations import mean_colour
from tinyvit_kd.views.params import Operation
from tinyvit_kd.views.randaugment_levels import OPERATION_OF


def as_operation(name: str, arguments: tuple[float, ...]) -> Operation:
    """A call of one of timm's operations as an ``Operation`` of ours."""
    value = arguments[0] if arguments else 0.0
    return Operation(OPERATION_OF[name][0], 1.0 - value if name == "Desaturate" else value)


def recording_policy(spec: ViewSpec, log: list[Operation], apply: bool = True) -> RandAugment:
    """timm's RandAugment as ``transforms_imagenet_train`` sets it up; each call appends to ``log``."""
    settings = {"img_mean": mean_colour(spec.mean), "interpolation": str_to_pil_interp(spec.interpolation)}
    policy = rand_augment_transform(spec.auto_augment, settings | {"translate_const": int(spec.size * 0.45)})
    record_operations(policy, log, apply)
    return policy


def record_operations(policy: RandAugment, log: list[Operation], apply: bool = True) -> None:
    """Make every operation of the policy append itself to ``log``, and apply itself only if ``apply``."""
    for operation in policy.ops:
        operation.aug_fn = partial(_logged, operation.name, operation.aug_fn if apply else None, log)


def _logged(
    name: str,
    function: Callable[..., Image.Image] | None,
    log: list[Operation],
    image: Image.Image,
    *arguments: float,
    **settings: Any,
) -> Image.Image:
    log.append(as_operation(name, arguments))
    if function is None:
        return image
    if log[-1].name == "Posterize" and arguments[0] <= 0:
        # timm passes on 0 bits, which Pillow 13 refuses; an image without any bits is black.
        return Image.new("RGB", image.size)
    return function(image, *arguments, **settings)


class BoxLog(list[tuple[int, int, int, int]]):
    """Takes the place of the image that timm erases, and records (left, top, width, height)."""

    def __setitem__(self, key: Any, value: Any) -> None:
        _, rows, columns = key
        self.append((columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start))


def recorded_boxes(spec: ViewSpec) -> list[tuple[int, int, int, int]]:
    """The boxes that timm erases from one view."""
    boxes = BoxLog()
    eraser = RandomErasing(spec.erase_prob, mode="const", max_count=spec.erase_count, device="cpu")
    eraser._erase(boxes, 3, spec.size, spec.size, None)
    return list(boxes)
