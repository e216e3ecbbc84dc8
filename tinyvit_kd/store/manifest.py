"""The manifest: everything that replay depends on, in one JSON file beside the blocks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import xxhash
from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.errors import (
    FieldDifference,
    FormatVersionError,
    ManifestMismatchError,
    StoreError,
    said_by,
    what_to_do,
)
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.records import FORMAT_VERSION

MAX_BLOCKS = 1 << 24  # of a store; lists of its blocks then take some GB at most
MAX_BLOCK_BYTES = 1 << 31  # of a block before compression, and so of what is unpacked at a time
_MAX_BYTES = 1 << 26  # of a manifest's file: those of half a million shards have as many
_CHECKSUM = "checksum"
_NOT_IDENTITY = {"views", "versions", "shard_set"}  # may change without changing what is stored


class TeacherEntry(BaseModel):
    """The teacher, as the manifest names it.

    Attributes:
        restriction: hash of the classes of its head that the store's are; None, and not in the file, if they are all.
        head: hash of the head file on its backbone; None, and not in the file, if its own classifier answered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    weights_hash: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str
    restriction: str | None = None
    head: str | None = None

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Manifests of teachers without them are the same bytes, and stores that were begun before go on.
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value is not None}


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

    @model_validator(mode="after")
    def _shards_agree(self) -> Manifest:
        if not len(self.shard_names) == len(self.shard_lengths) == len(self.key_hashes):
            raise ValueError("shard_names, shard_lengths and key_hashes must be of one length")
        return self

    @model_validator(mode="after")
    def _is_possible(self) -> Manifest:
        """Refuse a store that nobody can have, before memory is spent on it: its manifest may be a stranger's."""
        within = {
            "shard_lengths": all(0 <= length < 1 << 32 for length in self.shard_lengths),
            "key_hashes": all(0 <= each < 1 << 64 for each in self.key_hashes),
            "num_classes": 1 <= self.num_classes < 1 << 31,
            "topk": 1 <= self.topk <= min(self.num_classes, 65535),
            "views": self.views >= 1,
            "seed": self.seed >= 0,
            "view_spec": type(self.view_spec.get("size")) is int and self.view_spec["size"] >= 1,
        }
        for name, possible in within.items():
            if not possible:
                raise ValueError(f"{name} {str(getattr(self, name))[:80]} is out of range")
        problem = size_problem(self.shard_lengths, self.views, self.encoding, self.topk, self.num_classes)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def hash(self) -> str:
        """16 hexadecimal digits over all that the records depend on; adding views does not change it."""
        return _checksum(self.model_dump(mode="json", exclude=_NOT_IDENTITY))

    @property
    def identity(self) -> dict[str, Any]:
        """The fields that two runs must share to write to one store."""
        return {name: value for name, value in self if name not in _NOT_IDENTITY}

    def require_same(
        self,
        expected: Mapping[str, Any],
        where: str = "",
        *,
        other: str = "this run",
        fix: str = "use what the store was made from, or another store",
    ) -> None:
        """Check fields against those of a run or of another store.

        Args:
            expected: the values that fields must have, by name.
            where: the store or the shards, for the message.
            other: what has these values, for the message.
            fix: what to do about a difference, for the message.

        Raises:
            ManifestMismatchError: naming every field that differs.
        """
        differences = [
            each for name, value in expected.items() for each in _differences(name, getattr(self, name), value)
        ]
        if differences:
            raise ManifestMismatchError(
                f"the store differs from {other} in {', '.join(each.field for each in differences)}",
                differences=tuple(differences),
                where=where,
                found="; ".join(each.describe(other) for each in differences),
                fix=fix,
            )

    def other_versions(self, here: Mapping[str, str]) -> str:
        """Which of these libraries had another version when the store was begun; empty where none had."""
        there = {name: self.versions.get(name, "absent") for name in here}
        return ", ".join(f"{name} was {there[name]}, is {here[name]}" for name in here if there[name] != here[name])

    def save(self, storage: Storage, is_new: bool = False) -> bool:
        """Write ``manifest.json``, atomically, with a checksum of all of its fields.

        Args:
            is_new: only if there is none; of several jobs that do this at the same time, one succeeds.

        Returns:
            whether it was written.
        """
        fields = self.model_dump(mode="json")
        text = json.dumps({**fields, _CHECKSUM: _checksum(fields)}, indent=1)
        content = (text + "\n").encode()
        if is_new:
            return storage.write_new(MANIFEST, content, durable=True)
        storage.write(MANIFEST, content, durable=True)
        return True

    @classmethod
    def load(cls, storage: Storage) -> Manifest:
        """Read a store's manifest.

        Raises:
            StoreError: there is none, or it is damaged.
            FormatVersionError: it was written in another format.
        """
        location = storage.locate(MANIFEST)
        doing(f"reading {location}")
        try:
            info = storage.info(MANIFEST)
            if info is not None and info.size > _MAX_BYTES:
                raise ValueError(f"{info.size:,} bytes, and the largest that is read has {_MAX_BYTES:,}")
            fields = json.loads(storage.read(MANIFEST))
            version, checksum = fields["format_version"], fields.pop(_CHECKSUM, None)
        except FileNotFoundError:
            raise StoreError(
                "there is no store here", where=storage.locate(), fix="run dump-logits first, or correct the path"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                "the manifest cannot be read", where=location, found=said_by(error), fix=what_to_do(error, "")
            ) from error
        if version != FORMAT_VERSION:
            raise FormatVersionError(
                "the store has another format version",
                where=location,
                found=str(version),
                expected=str(FORMAT_VERSION),
                fix="read it with the version of tinyvit_kd that its manifest names, or dump again",
            )
        try:
            manifest = cls.model_validate_json(json.dumps(fields), strict=True)
        except ValidationError as error:
            problems = "; ".join(_problem(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors())
            raise StoreError(
                "the manifest is damaged, or none that a dump has written",
                where=location,
                found=problems,
                fix="restore it from where the store came from; without it, dump again into another folder",
            ) from None
        if checksum != _checksum(fields):
            raise StoreError(
                "the manifest has changed since it was written",
                where=location,
                found=f"checksum {_checksum(fields)}",
                expected=str(checksum),
                fix="restore it; what is known of its blocks is in their headers",
            )
        return manifest


def size_problem(lengths: Sequence[int], views: int, encoding: Encoding, topk: int, num_classes: int) -> str:
    """In what a store would be larger than any that can be used, in words; empty if it would not be.

    Args:
        lengths: samples of each shard.
    """
    blocks = max(1, sum(length > 0 for length in lengths)) * views
    if blocks > MAX_BLOCKS:
        return (
            f"{views:,} views of {len(lengths):,} shards are {blocks:,} blocks, and a store has {MAX_BLOCKS:,} at most"
        )
    longest = max(lengths, default=0)
    size = longest * plane_rows(encoding, max(1, longest), topk, num_classes)
    if size > MAX_BLOCK_BYTES:
        mib = MAX_BLOCK_BYTES >> 20
        return (
            f"the top {topk:,} of a shard's {longest:,} samples are {size >> 20:,} MiB, and a block has {mib:,} at most"
        )
    return ""


def _problem(field: str, message: str) -> str:
    said = message.removeprefix("Value error, ")  # pydantic's words before our own
    return f"{field}: {said}" if field else said


def _checksum(fields: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True).encode())


def _differences(name: str, stored: Any, expected: Any) -> list[FieldDifference]:
    """What differs; of mappings and sections each field on its own, by its dotted name."""
    if isinstance(stored, BaseModel) and isinstance(expected, BaseModel):
        stored, expected = dict(stored), dict(expected)
    if stored == expected:
        return []
    if isinstance(stored, dict) and isinstance(expected, dict):
        keys = sorted(stored.keys() | expected.keys())
        return [each for key in keys for each in _differences(f"{name}.{key}", stored.get(key), expected.get(key))]
    return [FieldDifference(name, stored, expected)]
