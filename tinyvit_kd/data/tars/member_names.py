"""What the name of a tar's member says: its key, its suffix, and whether it is a file of the system."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from tinyvit_kd.data.image_formats import IMAGE_SUFFIXES

SuffixKind = Literal["image", "dotted_image", "other", "unknown"]

PLAIN_LABELS = frozenset({"cls", "label"})  # suffixes of files that hold a label and nothing else
LABEL_SUFFIXES = PLAIN_LABELS | {"json", "txt"}
# Suffixes of files that go with images and are none: their bytes are not looked at.
_OTHER_SUFFIXES = frozenset(
    (
        *("csv", "tsv", "xml", "yaml", "yml", "md", "html", "text", "caption", "url", "py", "jsonl"),
        *("npy", "npz", "pth", "pt", "pkl", "pickle", "pyd", "ten", "mp", "cbor", "mp4", "wav"),
    )
)
_SYSTEM = re.compile(r"(?:^|/)(?:\._[^/]*|__MACOSX|PaxHeaders?(?:\.\d+)?)(?:/|$)")
_IMAGES = frozenset(IMAGE_SUFFIXES)
_FIELD = re.compile(r"[a-z][a-z0-9_-]*")  # the name of a webdataset field, as in "000.seg.png"


def split_name(name: str) -> tuple[str, str] | None:
    """Split a member's name at the first dot of its base name, into key and lower-case suffix; None if one is empty.

    This is the webdataset convention (https://github.com/webdataset/webdataset). It also skips ``._…`` files.
    """
    base = name.rpartition("/")[2]
    stem, _, suffix = base.partition(".")
    if not stem or not suffix:
        return None
    return name[: len(name) - len(suffix) - 1], suffix.lower()


def split_at_last_dot(name: str) -> tuple[str, str]:
    """Split a member's name at the last dot of its base name, into key and lower-case suffix, "" if there is none."""
    base = name.rpartition("/")[2].rstrip(".")
    stem, _, suffix = base.rpartition(".")
    return (name[: len(name) - len(suffix) - 1], suffix.lower()) if stem else (name.rstrip("."), "")


def passed_over(name: str) -> Literal["system", "hidden"] | None:
    """Why a member is passed over for its name alone: a file of macOS or of tar itself, or a hidden one; else None."""
    folder, _, base = name.rpartition("/")
    if not base.startswith(".") and not (folder and ("__MACOSX" in folder or "PaxHeader" in folder)):
        return None
    if _SYSTEM.search(name):
        return "system"
    return "hidden" if base.startswith(".") else None


@lru_cache(1 << 12)
def kind_of_suffix(suffix: str) -> SuffixKind:
    """What a lower-case suffix says of its file; ``seg.png`` is a dotted image."""
    if suffix in _IMAGES:
        return "image"
    last = suffix.rpartition(".")[2]
    if last in _IMAGES:
        return "dotted_image"
    return "other" if last in LABEL_SUFFIXES or last in _OTHER_SUFFIXES else "unknown"


@lru_cache(1 << 12)
def is_plain(suffixes: tuple[str, ...]) -> bool:
    """Whether files of these suffixes that share a key are one image and what goes with it, by their names alone."""
    kinds = [kind_of_suffix(suffix) for suffix in suffixes]
    return kinds.count("image") == 1 and "dotted_image" not in kinds


def names_image(name: str) -> bool:
    """Whether a name has the suffix of an image."""
    return split_at_last_dot(name)[1] in _IMAGES


def is_field(name: str) -> bool:
    """Whether what stands between key and last suffix is the name of a field, as ``seg`` is and ``2019.01`` is not."""
    base = name.rpartition("/")[2]
    return all(_FIELD.fullmatch(part) for part in base.split(".")[1:-1])
