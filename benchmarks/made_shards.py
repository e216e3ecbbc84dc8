"""Shard sets of any length from a few images, for benchmarks whose own processes must start fast."""

from __future__ import annotations

import os
import tarfile
from io import BytesIO
from pathlib import Path

from PIL import Image


def write_shards(folder: Path, images: list[bytes], shards: int, samples: int) -> str:
    """Write ``shards`` tars of ``samples`` samples each; returns a pattern that names them.

    All of them are one file: the images are read from memory in any case, and a disk need not hold them often.
    """
    folder.mkdir(parents=True)
    first = folder / "photos-000000.tar"
    with tarfile.open(first, "w") as tar:
        for number in range(samples):
            image = images[number % len(images)]
            member = tarfile.TarInfo(f"{number:09d}.jpg")
            member.size = len(image)
            tar.addfile(member, BytesIO(image))
    for shard in range(1, shards):
        os.link(first, folder / f"photos-{shard:06d}.tar")
    return str(folder / "photos-*.tar")


def grey_image() -> bytes:
    """A JPEG file that is not looked at."""
    file = BytesIO()
    Image.new("RGB", (16, 16), "grey").save(file, "JPEG")
    return file.getvalue()
