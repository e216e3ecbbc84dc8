"""Generators that belong to a transform, which seeding Python, NumPy and torch does not reach.

A transform with a method ``set_random_seed(seed)``, or with one that its recipe names, has it called with a hash of the
view's seed before every view. Albumentations' transforms are given new generators in the same way. They also take their
image by keyword, as an array. The library itself is imported only where a recipe names it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from PIL import Image

from tinyvit_kd.config.view_spec import TransformConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.foreign_code import one_line
from tinyvit_kd.runtime.seeding import hash64

Seeding = Callable[[int], object]
"""Seeds generators of a transform with a 64-bit number."""

ALBUMENTATIONS = "albumentations"
MODULES_BEHIND = {ALBUMENTATIONS: ("albucore", "cv2", "numkong", "stringzilla")}
"""Modules that make the pixels of a library's transforms, and that no recipe names."""

_METHOD = "set_random_seed"
_OWN = 0x6F776E  # hashed with a seed, to keep its uses apart


def forbid_calls_home() -> None:
    """Albumentations, unless the environment says otherwise, sends no account of pipelines and looks for no updates.

    It reads this when it is imported. It would send from a thread, in each process that loads data.
    """
    for variable in ("ALBUMENTATIONS_NO_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE"):
        os.environ.setdefault(variable, "1")


def is_of_albumentations(made: object) -> bool:
    """Whether an object is a transform or pipeline of Albumentations, of any version, or derives from one."""
    return any(kind.__module__.partition(".")[0] == ALBUMENTATIONS for kind in type(made).__mro__)


def called(transform: Callable[..., object], image: Image.Image) -> object:
    """What a transform returns for an image, which it may change.

    Albumentations gets it as uint8 [H, W, 3], and returns a dictionary, of which the image is taken.
    """
    result = transform(image=np.array(image)) if is_of_albumentations(transform) else transform(image.copy())
    return result.get("image", result) if isinstance(result, dict) else result


def what_to_install(error: BaseException | None) -> str:
    """The remedy for a library that could not be imported; empty for other errors."""
    absent = isinstance(error, ModuleNotFoundError) and error.name == ALBUMENTATIONS
    return "pip install 'tinyvit_kd[albumentations]'" if absent else ""


def own_seeding(made: Any, config: TransformConfig, field: str) -> Seeding | None:
    """How to seed what a recipe made; None if it does not say.

    Albumentations is given generators instead of a seed. From a seed, older versions give each part of a pipeline the
    same stream, so that one draw would decide for all of them. Newer ones add the seed of torch's loading process, so
    that other views would come from the main process.

    Args:
        made: the object.
        config: its mapping in the recipe.
        field: the place of that mapping, for messages.

    Raises:
        ConfigError: it has no method of the name in ``seed_with``, or the method does not take a seed.
    """
    if config.seed_with is None and (isinstance(made, type) or not callable(getattr(made, _METHOD, None))):
        return None
    path, _, method = (config.seed_with or _METHOD).rpartition(".")
    try:
        owner = attrgetter(path)(made) if path else made
        if method == _METHOD and is_of_albumentations(owner) and hasattr(owner, "set_random_state"):
            return lambda seed: owner.set_random_state(np.random.default_rng(seed), random.Random(seed))
        seed_with = getattr(owner, method)
        seed_with(0)
    except Exception as error:  # code of others may raise anything
        raise ConfigError(
            "the transform cannot be seeded by its own method",
            where=f"{field}: {config}",
            found=f"{config.seed_with or _METHOD} of {type(made).__name__}: {one_line(error, __file__)}",
            expected="a method that takes a whole number from 0 to 4294967295",
            fix="correct the method, or name another one as seed_with",
        ) from error
    return lambda seed: seed_with(seed >> 32)  # NumPy's older generators take no more than 32 bits


def seed_own(seedings: Sequence[Seeding], seed: int) -> None:
    """Seed the generators of a transform for a view, each by a hash of its own."""
    for number, seeding in enumerate(seedings):
        seeding(hash64(seed, _OWN, number))
