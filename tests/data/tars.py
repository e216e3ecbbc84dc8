"""Tiny tars and image folders for the tests of this folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tinyvit_kd.errors import BadImageError


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    """Write regular members, in order."""
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(key: str, label: int, image: bytes | None = None) -> list[tuple[str, bytes]]:
    """The members of one labelled sample."""
    content = f"image {key}".encode() if image is None else image
    return [(f"{key}.jpg", content), (f"{key}.cls", str(label).encode())]


def write_samples(path: Path, first: int, count: int) -> Path:
    """A tar of ``count`` samples, numbered and labelled from ``first`` on."""
    return write_tar(path, [part for n in range(first, first + count) for part in sample(f"{n:09d}", n)])


def write_class_folders(folder: Path, classes: dict[str, int]) -> Path:
    """Write this many images per class, as ``folder/<class>/<number>.JPEG``."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.JPEG").write_bytes(f"{name} {number}".encode() * (number + 1))
    return folder


def refuse_marked(content: bytes) -> None:
    """In place of a decoder: refuses content that begins with ``bad``."""
    if content.startswith(b"bad"):
        raise BadImageError("not an image")
