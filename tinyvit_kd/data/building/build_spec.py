"""Decides which image goes into which shard; a build that is run again decides the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import xxhash

from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.indexing.index import Int64
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.seeding import hash64, permutation
from tinyvit_kd.storage.base import Storage

FORMAT_VERSION = 1
_SHUFFLE = 0x6275696C64  # distinguishes the random draws of this module


@dataclass(frozen=True)
class BuildSpec:
    """All that determines the bytes of a split's shards, apart from the images' content."""

    split: str
    seed: int
    samples_per_shard: int
    samples: int
    source_hash: str  # of the images' names and sizes
    classes_hash: str
    format_version: int = FORMAT_VERSION
    resized: str | None = None  # how large images were encoded anew

    @property
    def facts(self) -> dict[str, Any]:
        """What is kept of it: all that is said."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def lengths(self) -> list[int]:
        """Samples per shard, for each shard; the last one may have fewer."""
        full, rest = divmod(self.samples, self.samples_per_shard)
        return [self.samples_per_shard] * full + [rest] * (rest > 0)

    @property
    def filenames(self) -> list[str]:
        """File names of the shards."""
        return [f"{self.split}-{shard:06d}.tar" for shard in range(len(self.lengths))]


class AssignedImage(NamedTuple):
    """An image, and what its sample is called."""

    number: int  # of the sample within the split
    class_name: str
    key: str  # empty: the number
    image: Image


class ImageAssignment:
    """Assigns the images of all classes to shards, at random by the spec's seed."""

    def __init__(self, spec: BuildSpec, sources: Sequence[ClassSource]) -> None:
        self._spec = spec
        self._sources = sources
        self._ends: Int64 = np.cumsum([len(source) for source in sources], dtype=np.int64)
        self._order = permutation(hash64(spec.seed, _SHUFFLE), spec.samples)

    def images_of(self, shard: int) -> Iterator[AssignedImage]:
        """The images of a shard, in its order."""
        first = shard * self._spec.samples_per_shard
        for number, chosen in enumerate(self._order[first : first + self._spec.samples_per_shard], first):
            row = int(np.searchsorted(self._ends, chosen, side="right"))
            source = self._sources[row]
            index = int(chosen - self._ends[row] + len(source))
            yield AssignedImage(number, source.class_name, source.key(index), source.image(index))


def source_hash(sources: Sequence[ClassSource]) -> str:
    """32 hexadecimal digits over classes, names, sizes and, where they are given, keys of all images."""
    state = xxhash.xxh3_128()
    for source in sources:
        state.update(source.class_name.encode() + b"\0" + b"\0".join(source.names.tolist()))
        state.update(np.ascontiguousarray(source.extents[:, 1:]).astype("<i8").tobytes())
        if len(source.keys):
            state.update(b"\0".join(source.keys.tolist()))
    return state.hexdigest()


def keep_build_spec(out: Storage, name: str, spec: BuildSpec) -> None:
    """Write the spec to a file; if the file exists, check that it holds the same spec.

    Raises:
        ShardError: the existing shards were made by another spec; it names what differs.
    """
    facts = spec.facts
    if out.write_new(name, (json.dumps(facts, indent=2) + "\n").encode()):
        return
    try:
        kept = json.loads(out.read(name))
    except ValueError:
        kept = None
    kept = kept if isinstance(kept, dict) else {}
    differing = {field: facts.get(field) for field in {**kept, **facts} if kept.get(field) != facts.get(field)}
    if differing:
        raise ShardError(
            "the output folder holds shards of another build",
            where=out.locate(name),
            found=", ".join(f"{field} {kept.get(field)}" for field in differing),
            expected=", ".join(f"{field} {value}" for field, value in differing.items()),
            fix=f"build into another folder, or remove {spec.split}-*.tar and {name} from this one",
        )
