"""Transforms that keep generators of their own: such as can be seeded, and such as cannot."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from tests.views.transforms import SIZE, fitted

GENERATOR = random.Random(0)
HERE = __name__


def albumentation(name: str, **kwargs: Any) -> dict[str, Any]:
    """A class of Albumentations', as a recipe names it."""
    return {"call": f"albumentations.{name}", "kwargs": kwargs}


PIPELINE = albumentation(
    "Compose",
    transforms=[
        albumentation("RandomResizedCrop", size=[SIZE, SIZE], scale=[0.3, 1]),
        albumentation("HorizontalFlip", p=0.5),
        albumentation(
            "SomeOf",
            transforms=[
                albumentation("ColorJitter", p=0.8),
                albumentation("OneOf", transforms=[albumentation("GaussNoise", p=1), albumentation("ToGray", p=1)]),
                albumentation("RandomBrightnessContrast", p=1),
            ],
            n=2,
        ),
        albumentation("CoarseDropout", p=0.5),
    ],
)
RESIZED = albumentation("Resize", height=SIZE, width=SIZE)


def _noisy(image: Image.Image, numbers: list[int]) -> Image.Image:
    view = fitted(image)
    for column, number in enumerate(numbers):
        view.putpixel((column, 0), (number, 0, 0))
    return view


class Noise:
    """Two pixels from a generator of its own, which can be seeded."""

    def __init__(self, inner: Any = None) -> None:
        self._inner = inner
        self.set_random_seed(0)

    def set_random_seed(self, seed: int) -> None:
        self._generator = np.random.RandomState(seed)  # which takes no more than 32 bits

    def __call__(self, image: Image.Image) -> Image.Image:
        return _noisy(self._inner(image) if self._inner else image, self._generator.randint(256, size=2).tolist())


class TorchNoise:
    """The same from a generator of torch's, in an attribute."""

    def __init__(self) -> None:
        self.generator = torch.Generator()

    def __call__(self, image: Image.Image) -> Image.Image:
        return _noisy(image, torch.randint(256, (2,), generator=self.generator).tolist())


class InTurn:
    """Its parts, one after another; it cannot be seeded itself."""

    def __init__(self, parts: list[Any]) -> None:
        self._parts = parts

    def __call__(self, image: Image.Image) -> Image.Image:
        for part in self._parts:
            image = part(image)
        return image


class Beside(InTurn):
    """The first pixel of each of its parts, next to one another."""

    def __call__(self, image: Image.Image) -> Image.Image:
        pixels: list[Any] = [part(image).getpixel((0, 0)) for part in self._parts]
        return _noisy(image, [red for red, _green, _blue in pixels])


class Drawing:
    """A pipeline of Albumentations', given to it or not, in code of a user's."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        view: npt.NDArray[np.uint8] = self.pipeline(image=np.asarray(image))["image"]
        return view


class PartlySeeded(Noise):
    """Its method does not seed all that it draws from."""

    def __call__(self, image: Image.Image) -> Image.Image:
        return _noisy(super().__call__(image), [random.SystemRandom().randrange(256)])


class Counting(Noise):
    """Seeded, but counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = itertools.count()

    def __call__(self, image: Image.Image) -> Image.Image:
        return _noisy(super().__call__(image), [next(self._calls) % 256])


class TakesNoSeed:
    """Its method takes no seed."""

    def set_random_seed(self) -> None: ...

    def __call__(self, image: Image.Image) -> Image.Image:
        return fitted(image)


def of_the_module() -> Callable[[Image.Image], Image.Image]:
    """A function that draws from a generator of its module."""
    return lambda image: _noisy(image, [GENERATOR.randrange(256)])


def as_dictionary(image: Image.Image) -> dict[str, Image.Image]:
    return {"image": fitted(image)}


def as_another_dictionary(image: Image.Image) -> dict[str, Image.Image]:
    return {"picture": fitted(image)}


def in_one_thread(image: Image.Image) -> Image.Image:
    """Fails where OpenCV would use more than one thread."""
    import cv2

    if cv2.getNumThreads() > 1:
        raise RuntimeError(f"{cv2.getNumThreads()} threads")
    return fitted(image)


def resized() -> Any:
    """A transform of Albumentations', in a module that a recipe names instead."""
    import albumentations

    return albumentations.Resize(height=SIZE, width=SIZE)


def unseeded_drawing() -> Drawing:
    """A user's transform with a pipeline inside, which nobody seeds."""
    import albumentations

    crop = albumentations.RandomResizedCrop(size=(SIZE, SIZE), scale=(0.1, 0.5))
    return Drawing(albumentations.Compose([crop]))
