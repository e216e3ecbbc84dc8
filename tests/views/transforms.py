"""Transforms that tests name in recipes: sound ones, and faulty ones of every kind."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torchvision import tv_tensors

SIZE = 16
GLOBAL_GENERATOR = np.random.default_rng(0)


def timm(**kwargs: Any) -> dict[str, Any]:
    """timm's training transform of ``SIZE``, as a recipe names it."""
    kwargs = {"input_size": SIZE, "is_training": True, "normalize": False} | kwargs
    return {"call": "timm.data.create_transform", "kwargs": kwargs}


def v2(name: str, **kwargs: Any) -> dict[str, Any]:
    """A class of torchvision's, as a recipe names it."""
    return {"call": f"torchvision.transforms.v2.{name}", "kwargs": kwargs}


PIPELINE = v2(
    "Compose",
    transforms=[
        v2("PILToTensor"),
        v2("RandomResizedCrop", size=SIZE, interpolation={"name": "torchvision.transforms.InterpolationMode.BICUBIC"}),
        v2("RandomChoice", transforms=[v2("TrivialAugmentWide"), v2("RandomGrayscale", p=0.5)]),
        v2("RandomApply", transforms=[v2("ColorJitter", brightness=0.4, hue=0.1), v2("GaussianBlur", kernel_size=3)]),
        v2("RandomErasing", p=0.5),
        v2("ToDtype", dtype={"name": "torch.uint8"}, scale=True),
    ],
)
SOUND = {
    "AutoAugment": timm(auto_augment="original-mstd0.5"),
    "AugMix": timm(auto_augment="augmix-m3-w3"),
    "three-augment": timm(auto_augment="3a", color_jitter=0.3),
    "colour jitter": timm(color_jitter=[0.4, 0.4, 0.4, 0.1], interpolation="bicubic"),
    "random interpolation": timm(auto_augment="rand-m9-mstd0.5-inc1-tweights", interpolation="random"),
    "torchvision v2": PIPELINE,
}


def stripes(image: Image.Image) -> Image.Image:
    """A view whose colour is one number from each of the three generators, and whose first pixel is the image's."""
    numbers = [random.random(), np.random.random(), torch.rand(()).item()]
    first = image.getpixel((0, 0))
    assert isinstance(first, tuple)
    view = Image.new("RGB", (SIZE, SIZE), tuple(int(255 * number) for number in numbers))
    view.putpixel((0, 0), first)
    return view


def blackening(image: Image.Image) -> Image.Image:
    """As ``stripes``, but it then makes the image's first pixel black."""
    view = stripes(image)
    image.putpixel((0, 0), (0, 0, 0))
    return view


def fitted(image: Image.Image) -> Image.Image:
    """No randomness at all."""
    return ImageOps.fit(image, (SIZE, SIZE))


def as_grey(image: Image.Image) -> Image.Image:
    return fitted(image).convert("L")


def as_rows(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(fitted(image))


def as_planes(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(fitted(image)).transpose(2, 0, 1)


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(as_planes(image).copy())


def as_torchvision_image(image: Image.Image) -> torch.Tensor:
    tensor: torch.Tensor = tv_tensors.Image(as_tensor(image))
    return tensor


def as_floats(image: Image.Image) -> torch.Tensor:
    return as_tensor(image) / 255


def as_deep_image(image: Image.Image) -> Image.Image:
    return fitted(image).convert("F")


def too_large(image: Image.Image) -> Image.Image:
    return image.resize((SIZE + 1, SIZE))


def nothing(_image: Image.Image) -> None:
    return None


def failing(_image: Image.Image) -> Image.Image:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    raise LookupError("no such\ncolour")


def with_a_global_generator(image: Image.Image) -> Image.Image:
    return _shifted(image, int(GLOBAL_GENERATOR.integers(256)))


class WithItsOwnGenerator:
    """Draws different numbers whenever it is built."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng()

    def __call__(self, image: Image.Image) -> Image.Image:
        return _shifted(image, int(self._generator.integers(256)))


class WithASeededGenerator:
    """Draws the same numbers whenever it is built, so that only the order of calls reveals it."""

    def __init__(self) -> None:
        self._generator = np.random.default_rng(0)

    def __call__(self, image: Image.Image) -> Image.Image:
        return _shifted(image, int(self._generator.integers(256)))


class WithState:
    """Counts its calls."""

    def __init__(self, period: int = 256) -> None:
        self._calls = itertools.cycle(range(period))

    def __call__(self, image: Image.Image) -> Image.Image:
        return _shifted(image, next(self._calls))


class RarelyItsOwn:
    """Draws from a generator of its own after 200 calls."""

    def __init__(self) -> None:
        self._calls = itertools.count()

    def __call__(self, image: Image.Image) -> Image.Image:
        return _shifted(image, 0 if next(self._calls) < 200 else int(np.random.default_rng().integers(256)))


def fussy(image: Image.Image) -> Image.Image:
    """Fails for a third of all seeds."""
    shift = random.randrange(255)
    if shift % 3 == 0:
        raise ValueError(f"{shift} is not allowed")
    return _shifted(image, shift)


class DrawnOnce:
    """Makes a random choice while it is built; the same in every process, if building is seeded."""

    def __init__(self) -> None:
        self._shift = random.randrange(256)

    def __call__(self, image: Image.Image) -> Image.Image:
        return _shifted(image, self._shift)


def _shifted(image: Image.Image, shift: int) -> Image.Image:
    view = fitted(image)
    view.putpixel((0, 0), (shift, 0, 0))
    return view
