"""Which image goes into which shard: decided once, and the same when a build is run again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xxhash

from tinyvit_kd.data.index import Int64
from tinyvit_kd.data.sources import ClassSource, Image
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.seeding import hash64, permutation

FORMAT_VERSION = 1
_SHUFFLE = 0x6275696C64


@dataclass(frozen=True)
class Assignment:
    """What the bytes of a split's shards follow from."""

    split: str
    seed: int
    samples_per_shard: int
    samples: int
    source_hash: str  # of the images' names and sizes
    classes_hash: str
    format_version: int = FORMAT_VERSION

    @property
    def lengths(self) -> list[int]:
        """Samples of each shard; the last one may be shorter."""
        full, rest = divmod(self.samples, self.samples_per_shard)
        return [self.samples_per_shard] * full + [rest] * (rest > 0)

    @property
    def filenames(self) -> list[str]:
        """Names of the shards."""
        return [f"{self.split}-{shard:06d}.tar" for shard in range(len(self.lengths))]


class ShuffledImages:
    """The images of all classes, spread over the shards by the seed."""

    def __init__(self, assignment: Assignment, classes: Sequence[ClassSource]) -> None:
        self._assignment, self._classes = assignment, classes
        self._ends: Int64 = np.cumsum([len(each) for each in classes], dtype=np.int64)
        self._order = permutation(hash64(assignment.seed, _SHUFFLE), assignment.samples)

    def shard(self, number: int) -> Iterator[tuple[int, str, Image]]:
        """One shard's samples: number within the split, name of the class, image."""
        per_shard = self._assignment.samples_per_shard
        first = number * per_shard
        for number_in_split, chosen in enumerate(
            self._order[first : first + self._assignment.samples_per_shard], first
        ):
            row = int(np.searchsorted(self._ends, chosen, side="right"))
            source = self._classes[row]
            yield number_in_split, source.class_name, source.image(int(chosen - self._ends[row] + len(source)))


def source_hash(classes: Sequence[ClassSource]) -> str:
    """32 hex characters over classes, names and sizes of all images."""
    state = xxhash.xxh3_128()
    for each in classes:
        state.update(each.class_name.encode() + b"\0" + b"\0".join(each.names.tolist()))
        state.update(np.ascontiguousarray(each.spans[:, 1:]).astype("<i8").tobytes())
    return state.hexdigest()


def keep_assignment(path: Path, assignment: Assignment) -> None:
    """Write the assignment down, or check that the shards that are there were made by the same one.

    Raises:
        ShardError: they were made by another assignment; it names what differs.
    """
    if not path.exists():
        write_json(path, asdict(assignment))
        return
    try:
        kept = json.loads(path.read_bytes())
    except ValueError:
        kept = None
    kept = kept if isinstance(kept, dict) else {}
    differing = {name: value for name, value in asdict(assignment).items() if kept.get(name) != value}
    if differing:
        raise ShardError(
            "the output folder holds shards of another build",
            where=str(path),
            found=", ".join(f"{name} {kept.get(name)}" for name in differing),
            expected=", ".join(f"{name} {value}" for name, value in differing.items()),
            fix=f"build into another folder, or remove {assignment.split}-*.tar and {path.name} from this one",
        )
