"""The manifest: everything that replay depends on, in one JSON file beside the blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError

from tinyvit_kd.errors import FormatVersionError, ManifestMismatchError, StoreError
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.store.records import FORMAT_VERSION, Encoding

MANIFEST = "manifest.json"
_NOT_IDENTITY = {"views", "versions", "shard_set"}  # may change without changing what is stored


class TeacherEntry(BaseModel):
    """The teacher, as the manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_hash: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str


class Manifest(BaseModel):
    """What a store was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    shard_set: str  # name, for people
    shard_names: tuple[str, ...]
    shard_lengths: tuple[int, ...]
    key_hashes: tuple[int, ...]
    view_spec: dict[str, Any]
    view_spec_hash: str
    teacher: TeacherEntry
    num_classes: int
    class_list: str | None
    class_list_hash: str | None
    topk: int
    views: int
    encoding: Encoding
    seed: int
    versions: dict[str, str]

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over all that the records depend on; more views may be added without changing it."""
        fields = self.model_dump(mode="json", exclude=_NOT_IDENTITY)
        return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True).encode())

    def require_same(self, expected: Mapping[str, Any], where: str = "") -> None:
        """Check fields against what a run would use.

        Raises:
            ManifestMismatchError: naming every field that differs.
        """
        differing = {name: value for name, value in expected.items() if getattr(self, name) != value}
        if not differing:
            return
        raise ManifestMismatchError(
            f"the store differs from this run in {', '.join(differing)}",
            where=where,
            found="; ".join(_difference(name, getattr(self, name), value) for name, value in differing.items()),
            fix="use what the store was made from, or another store",
        )

    def save(self, folder: Path) -> None:
        """Write ``manifest.json``, atomically."""
        atomic_write(folder / MANIFEST, (self.model_dump_json(indent=1) + "\n").encode(), fsync=True)

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read a store's manifest.

        Raises:
            StoreError: there is none, or it is damaged.
            FormatVersionError: it was written in another format.
        """
        path = folder / MANIFEST
        try:
            tree = json.loads(path.read_bytes())
            version = tree["format_version"]
        except FileNotFoundError:
            raise StoreError(
                "there is no store here", where=str(folder), fix="run dump-logits first, or correct the path"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError("the manifest cannot be read", where=str(path), found=repr(error)) from None
        if version != FORMAT_VERSION:
            raise FormatVersionError(
                "the store has another format version",
                where=str(path),
                found=str(version),
                expected=str(FORMAT_VERSION),
                fix="read it with the version of tinyvit_kd that its manifest names, or dump again",
            )
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise StoreError("the manifest is damaged", where=str(path), found=problems) from None


def _difference(name: str, stored: Any, expected: Any) -> str:
    """Both values; of long lists the first places that differ."""
    if isinstance(stored, tuple) and isinstance(expected, tuple):
        if len(stored) != len(expected):
            return f"{name} has {len(stored)} entries in the store and {len(expected)} here"
        place = next(i for i, (a, b) in enumerate(zip(stored, expected, strict=True)) if a != b)
        return f"{name}[{place}] is {stored[place]} in the store and {expected[place]} here"
    return f"{name} is {stored} in the store and {expected} here"
