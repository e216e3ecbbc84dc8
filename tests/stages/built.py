"""What ``shards build`` has made, for tests."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import CommandLine, Ended


class Built(NamedTuple):
    """A sample of a shard."""

    suffix: str
    image: bytes
    label: int | None
    said: dict[str, Any]


def built(folder: Path, split: str = "train") -> dict[str, Built]:
    """The samples of a split, by key, in their order."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                key, _, suffix = member.name.rpartition(".")
                found.setdefault(key, {})[suffix] = file.read()
    samples = {}
    for key, parts in found.items():
        (image,) = parts.keys() - {"cls", "json"}
        label = int(parts["cls"]) if "cls" in parts else None
        samples[key] = Built(image, parts[image], label, json.loads(parts["json"]))
    return samples


def labels_by_image(folder: Path, split: str = "train") -> dict[bytes, int | None]:
    """The label of each image."""
    samples = built(folder, split).values()
    labels = {sample.image: sample.label for sample in samples}
    assert len(labels) == len(samples)
    return labels


def build(command_line: CommandLine, *arguments: str | Path) -> Ended:
    """``shards build`` in this process; its last line says what it made."""
    ended = command_line("shards", "build", *arguments, "--processes", "1")
    assert ended.code == 0, ended.err
    return ended


def refused(command_line: CommandLine, *arguments: str | Path) -> str:
    """What the command says when it refuses, in one line."""
    ended = command_line("shards", "build", *arguments, "--processes", "1")
    assert ended.code == 2, ended.out
    return " ".join(ended.err.split())
