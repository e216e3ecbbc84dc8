"""Any other transform, replayed by seeding: a timm or torchvision pipeline, or a callable by its dotted name.

Such transforms draw from generators that are global to a process. For each call, Python's, NumPy's and torch's default
generators are seeded from the view's seed; they are restored afterwards. Seeding cannot reach generators that belong to
the transform; ``batches/transform_check.py`` looks for those.
"""

from __future__ import annotations

import importlib.metadata
import platform
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from pydantic import JsonValue

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.view_spec import TransformConfig, ViewSpec
from tinyvit_kd.errors import ConfigError, TransformError
from tinyvit_kd.runtime.foreign_code import one_line, resolve
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.views.decode import decode
from tinyvit_kd.views.view_arrays import output

UInt8 = npt.NDArray[np.uint8]
Transform = Callable[[Image.Image], object]

TRANSFORM_FIELD = "views.transform"
_WHAT = "the transform"
_LIBRARIES = ("torch", "torchvision", "timm", "numpy")
# Hashed with a seed, to keep its uses apart.
_PYTHON, _NUMPY, _TORCH, _BUILDING = 0x7079, 0x6E70, 0x7468, 0x6D616B65
_RETRY = 0x616761696E
_ATTEMPTS = 8  # seeds that are tried for a view
_DEEP_MODES = ("I", "F")  # first letters of Pillow's modes with more than 8 bits per channel


def transform_views(image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, out: UInt8 | None = None) -> UInt8:
    """One view per seed from one decoding, by ``spec.transform``: uint8 [V, 3, S, S], C-contiguous.

    The three default generators are always restored. Generators of GPUs are not used or changed.

    Args:
        out: the array to fill and return, of that shape; a new one by default.

    Raises:
        BadImageError: the image cannot be decoded or is too large; the content of ``out`` is then undefined.
        ConfigError: the transform cannot be built.
        TransformError: it raises an error, or does not return a uint8 view of the spec's size.
        ValueError: ``out`` is not such an array.
    """
    assert spec.transform is not None
    views = output(out, (len(seeds), 3, spec.size, spec.size))
    image = decode(image_bytes, spec.max_pixels)
    transform = build_transform(spec.transform)
    with _preserved_generators():
        for view, seed in zip(views, seeds, strict=True):
            result = _draw(transform, image, int(seed), spec.transform)  # seeds may be NumPy integers
            _write(view, result, spec.transform)
    return views


def build_transform(config: TransformConfig) -> Transform:
    """The transform of a recipe. It is built once per process, with the same random choices in every process.

    Raises:
        ConfigError: a name cannot be imported, a call in the recipe fails, or the result cannot be called.
    """
    return _built(config.model_dump_json())


def forget_built() -> None:
    """Forget built transforms, so that they are built anew when next used."""
    _built.cache_clear()


def transform_versions(spec: ViewSpec) -> dict[str, str]:
    """Versions of Python and of all packages that can affect ``spec.transform``, for the manifest."""
    if spec.transform is None:
        return {}
    owners = importlib.metadata.packages_distributions()
    modules = {name.partition(".")[0] for name in _names(spec.transform.model_dump(mode="json"))}
    packages = {*_LIBRARIES, *(package for module in modules for package in owners.get(module, ()))}
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in sorted(packages)}


@lru_cache(maxsize=4)
def _built(text: str) -> Transform:
    config = TransformConfig.model_validate_json(text)
    with _preserved_generators():
        _seed_generators(_BUILDING)
        transform: object = _build(config, TRANSFORM_FIELD)
    if not callable(transform):
        raise ConfigError(
            "the transform cannot be called",
            where=f"{TRANSFORM_FIELD}: {config}",
            found=f"{type(transform).__name__}, {transform!r:.80}",
            fix="name a callable, or call something that returns one",
        )
    return transform


def _build(config: TransformConfig, field: str) -> Any:
    """The object that a recipe's mapping describes; ``field`` is its place in the recipe, for messages."""
    if config.name is not None:
        return resolve(config.name, field, _WHAT)
    call = resolve(str(config.call), field, _WHAT)
    args = [_value(each, f"{field}.args.{number}") for number, each in enumerate(config.args)]
    kwargs = {name: _value(each, f"{field}.kwargs.{name}") for name, each in config.kwargs.items()}
    try:
        return call(*args, **kwargs)
    except Exception as error:  # code of others may raise anything
        raise ConfigError(
            "a call that builds the transform failed",
            where=f"{field}: {config}",
            found=one_line(error, __file__),
            fix="correct args and kwargs in the recipe",
        ) from error


def _value(value: JsonValue, field: str) -> Any:
    """An argument, with every mapping of a call or a name replaced by what it describes."""
    if isinstance(value, list):
        return [_value(each, f"{field}.{number}") for number, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    if "call" in value or value.keys() == {"name"}:
        return _build(validate(TransformConfig, value, field), field)
    return {name: _value(each, f"{field}.{name}") for name, each in value.items()}


def _names(value: JsonValue) -> Iterator[str]:
    """All dotted names in a transform's data, and possibly other strings."""
    if isinstance(value, dict):
        yield from (each for key, each in value.items() if key in ("call", "name") and isinstance(each, str))
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _names(each)


def _draw(transform: Transform, image: Image.Image, seed: int, config: TransformConfig) -> object:
    """What the transform returns. If it fails, further seeds are tried, which follow from the view's own.

    Policies of libraries fail for some random choices: in one view of a thousand, timm's RandAugment asks Pillow to
    posterize to 0 bits, which Pillow 13 refuses. Such a view would stop every dump and finetuning at the same place.
    """
    for attempt in range(_ATTEMPTS):
        _seed_generators(hash64(seed, _RETRY, attempt) if attempt else seed)
        try:
            return transform(image.copy())
        except Exception as error:
            raised = f"{config} raised {type(error).__name__}"
            warn_once(raised, f"{raised} on a view; such views are drawn again from further seeds")
            failure = error
    raise TransformError(
        "the transform fails on an image with every seed",
        where=f"{TRANSFORM_FIELD}: {config}",
        found=f"{one_line(failure, __file__)}; from seed {seed} and {_ATTEMPTS - 1} more",
        fix="correct the transform: it gets Pillow images in RGB, of any size",
    ) from failure


def _write(view: UInt8, result: object, config: TransformConfig) -> None:
    """Copy what a transform returned into ``view``, uint8 [3, S, S]."""
    array = _pixels(result)
    kind = type(result).__name__
    if array is None:
        dtype = getattr(result, "dtype", getattr(result, "mode", ""))
        fix = "leave out conversion to floats and normalisation, which are done on the device (normalize: false for "
        fix += "timm.data.create_transform, which then does no erasing either)"
        if not dtype:
            fix = "return the view: the transform is called with an image and must return its view"
        raise _refusal(config, view, f"{kind} {dtype}".strip(), fix)
    if array.shape == view.shape:
        view[:] = array
    elif array.shape == (*view.shape[1:], 3):
        view[:] = array.transpose(2, 0, 1)
    else:
        fix = "give views.size and the transform's own arguments the same size"
        raise _refusal(config, view, f"{kind} {list(array.shape)}", fix)


def _pixels(result: object) -> UInt8 | None:
    """The result as an 8-bit array with axes in any order; None if it is not 8-bit pixels."""
    if isinstance(result, Image.Image):
        return None if result.mode.startswith(_DEEP_MODES) else np.asarray(result.convert("RGB"))
    if isinstance(result, torch.Tensor) and result.dtype == torch.uint8:
        return np.asarray(result.detach().cpu())
    return result if isinstance(result, np.ndarray) and result.dtype == np.uint8 else None


def _refusal(config: TransformConfig, view: UInt8, found: str, fix: str) -> TransformError:
    side = view.shape[-1]
    return TransformError(
        "the transform does not return a view",
        where=f"{TRANSFORM_FIELD}: {config}",
        found=found,
        expected=f"a Pillow image of {side} x {side}, or uint8 [3, {side}, {side}] or [{side}, {side}, 3]",
        fix=fix,
    )


@contextmanager
def _preserved_generators() -> Iterator[None]:
    python = random.getstate()
    numpy = np.random.get_state(legacy=False)
    pytorch = torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(pytorch)


def _seed_generators(seed: int) -> None:
    # With different hashes: NumPy's and torch's Mersenne twisters would give the same numbers from the same seed.
    random.seed(hash64(seed, _PYTHON))
    np.random.seed(hash64(seed, _NUMPY) >> 32)
    # torch.manual_seed would also reseed GPUs, and takes 100 µs.
    torch.default_generator.manual_seed(hash64(seed, _TORCH) >> 1)
