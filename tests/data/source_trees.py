"""Sources of images as people have them, in a few bytes each."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.data.tars import write_tar

JPEG = b"\xff\xd8\xff\xe0"  # how such a file begins, which is all that a build looks at
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def write_tree(root: Path, names: Iterable[str], content: bytes = JPEG) -> Path:
    """Files of different sizes; a name that ends with a slash is a folder."""
    for number, name in enumerate(names):
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content + bytes(number))
    return root


def classes(*names: str, count: int = 2, inside: str = "") -> list[str]:
    """Names of this many images of each class."""
    return [f"{name}/{inside}{number}.jpg" for name in names for number in range(count)]


def zip_of(path: Path, names: Iterable[str]) -> Path:
    """A zip of images, half of them deflated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            method = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(name, JPEG + f"{path.stem} {name}".encode(), method)
    return path


def tar_of(path: Path, names: Iterable[str]) -> Path:
    """A tar of images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tar(path, [(name, JPEG + f"{path.stem} {name}".encode()) for name in names])


def tar_of_tars(path: Path, classes: Iterable[str]) -> Path:
    """One tar of images per class, in one tar, as ImageNet's training images come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = []
    for name in classes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for number in range(2):
                content = JPEG + f"{name} {number}".encode()
                info = tarfile.TarInfo(f"{name}_{number}.JPEG")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        inner.append((f"{name}.tar", file.getvalue()))
    return write_tar(path, inner)
