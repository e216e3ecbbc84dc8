"""Image files by the paths that people give: files, and folders of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tinyvit_kd.data.image_formats import IMAGE_SUFFIXES
from tinyvit_kd.errors import ConfigError, reason_of

_SUFFIXES = frozenset(f".{suffix}" for suffix in IMAGE_SUFFIXES)


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given; of folders, all images in them and below, by their suffixes and in order of their names.

    Hidden files, and what lies in hidden folders, are left out of folders.

    Raises:
        ConfigError: there is no such path, a folder cannot be read, or has no image in it.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = _inside(path)
            if not inside:
                raise ConfigError(
                    "there is no image in a folder",
                    where=str(path),
                    expected=f"files named .{', .'.join(IMAGE_SUFFIXES[:4])} or by another image's suffix",
                )
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise ConfigError("there is no such image", where=str(path), fix="correct the path")
    return found


def _inside(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise ConfigError("cannot read a folder of images", where=str(error.filename), found=reason_of(error))

    images: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images += [
            Path(parent, name)
            for name in sorted(names)
            if os.path.splitext(name)[1].lower() in _SUFFIXES and not name.startswith(".")
        ]
    return images
