"""Images for benchmarks: JPEG files out of webdataset tars or a folder, and what damage does to them."""

from __future__ import annotations

import random
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_MARKERS = (0x01, *range(0xC0, 0xFF))


def load(folder: Path) -> list[bytes]:
    """The images of all tars in a folder, else its files, in the order of their names."""
    tars = sorted(folder.glob("*.tar"))
    if tars:
        return [image for tar in tars for image in _members(tar)]
    kinds = {".jpg", ".jpeg", ".png", ".mpo"}
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in kinds]


def _members(tar: Path) -> list[bytes]:
    with tarfile.open(tar) as file:
        members = [file.extractfile(member) for member in file if member.name.endswith(".jpg")]
        return [member.read() for member in members if member is not None]


def drawn(count: int, width: int = 500, height: int = 375, nbytes: int = 100_000) -> list[bytes]:
    """JPEG files as large as photos, for where there are none: noise with the spectrum that photos have.

    Args:
        nbytes: about how long each file is.
    """
    draw = np.random.default_rng(0)
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequencies[0, 0] = np.inf
    images = []
    for _ in range(count):
        brightness, *colours = (_pink(draw, frequencies) for _ in range(4))
        channels = [118 + 45 * brightness + 12 * colour for colour in colours]
        images.append(Image.fromarray(np.stack(channels, axis=2).clip(0, 255).astype(np.uint8)))
    files = {quality: _encoded(images[0], {"quality": quality}) for quality in range(60, 99, 2)}
    nearest = min(files, key=lambda quality: abs(len(files[quality]) - nbytes))
    return [_encoded(image, {"quality": nearest}) for image in images]


def _pink(draw: np.random.Generator, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Noise whose amplitudes fall as 1 / frequency, of mean 0 and deviation 1."""
    noise = np.fft.ifft2(np.fft.fft2(draw.normal(size=frequencies.shape)) / frequencies).real
    return np.asarray(noise / noise.std())


def encodings(photo: bytes) -> list[bytes]:
    """A photo, smaller, in every kind of JPEG file that the native renderer reads."""
    with Image.open(BytesIO(photo)) as opened:
        image = opened.convert("RGB")
    image = image.resize((image.width // 3 + 1, image.height // 3 + 1))
    colour: list[dict[str, Any]] = [{"subsampling": kind} for kind in ("4:4:4", "4:2:2", "4:2:0")]
    others: list[dict[str, Any]] = [
        {"progressive": True},
        {"restart_marker_blocks": 7},
        {"restart_marker_rows": 1, "optimize": True},
    ]
    return [_encoded(image, options) for options in (*colour, *others)] + [_encoded(image.convert("L"), {})]


def _encoded(image: Image.Image, options: dict[str, Any]) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **{"quality": 85} | options)
    return file.getvalue()


def damaged(image: bytes, draw: random.Random) -> bytes:
    """The file cut short, with bytes or bits changed, put in, taken out or appended, or with a marker put in."""
    file, kind = bytearray(image or bytes(4)), draw.randrange(9)
    place = draw.choice(
        (draw.randrange(len(file)), draw.randrange(min(len(file), 700)), -draw.randint(1, len(file) // 2))
    )
    place %= len(file)
    if kind == 0:
        del file[place:]
    elif kind == 1:
        del file[-draw.randint(1, min(len(file), 30)) :]
    elif kind == 2:
        file += draw.randbytes(draw.randint(1, 50))
    elif kind == 3:
        file[place:place] = bytes((0xFF, draw.choice(_MARKERS)))
    elif kind == 4:
        file[place : place + 2] = bytes((0xFF, draw.choice(_MARKERS)))
    elif kind == 5:
        del file[place : place + draw.randint(1, 20)]
    elif kind == 6:
        file[place:place] = draw.randbytes(draw.randint(1, 20))
    elif kind == 7:
        file[place] ^= 1 << draw.randrange(8)
    else:
        for _ in range(draw.randint(1, 4)):
            file[draw.randrange(len(file))] = draw.randrange(256)
    return bytes(file)
