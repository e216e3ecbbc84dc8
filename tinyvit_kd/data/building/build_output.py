"""Where a build writes its shards: a folder, or the URL of an object store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.data.building.build_spec import BuildSpec
from tinyvit_kd.data.locating.undescribed import INFO_NAMES
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import require_free_space
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.open import open_storage

_ATTEMPTS = 5  # of adding a split to a description that another build may replace at the same moment


def open_output(out: Path | str, sources: Sequence[Path]) -> Storage:
    """The storage of a folder or URL for shards.

    Raises:
        ConfigError: it is a source, or nothing can be written there.
    """
    output = open_storage(str(out).rstrip("/") or "/")
    folder = output_folder(output)
    if folder is not None and folder.resolve() in {source.resolve() for source in sources}:
        raise ConfigError(
            "the shards cannot lie among the folders of the classes",
            where=str(out),
            expected="another folder than the source",
            fix="give another output, for example a folder inside the source",
        )
    if folder is None and not output.is_writable():
        raise ConfigError(
            "shards cannot be written to this URL",
            where=str(out),
            expected="a folder, or a URL of an object store, such as s3://BUCKET/FOLDER",
            fix="build into a folder, and bring it to the server",
        )
    return output


def output_folder(output: Storage) -> Path | None:
    """The folder of an output on a disk; None for a URL."""
    return Path(output.locate()) if output.is_local else None


def require_room(output: Storage, sizes: Sequence[int], processes: int, unpacked: int) -> None:
    """Check that there is room for shards: for all where they are written, or in the folder for temporary files.

    Args:
        output: where they go.
        sizes: of the shards that are missing, bytes.
        processes: how many are written at a time.
        unpacked: bytes of images that are unpacked before, and removed afterwards.

    Raises:
        DiskSpaceError: there is not enough.
    """
    output.require_free_space(sum(sizes) + (unpacked if output.is_local else 0))
    if not output.is_local:
        require_free_space(Path(tempfile.gettempdir()), sum(sorted(sizes)[-processes:]) + unpacked)


def write_info(output: Storage, spec: BuildSpec, said: Mapping[str, Any]) -> None:
    """Write timm's ``_info.json``, keeping other splits that are in it.

    Args:
        output: where it goes.
        spec: of the split.
        said: further facts of the split.

    Raises:
        ShardError: other builds keep replacing it.
    """
    name = INFO_NAMES[0]
    entry = {
        "name": spec.split,
        "filenames": spec.filenames,
        "shard_lengths": spec.lengths,
        "num_samples": spec.samples,
        **said,
    }
    for _ in range(_ATTEMPTS):
        info = _read_info(output, name)
        if info["splits"].get(spec.split) != entry:
            info["splits"][spec.split] = entry
            output.write(name, (json.dumps(info, indent=2) + "\n").encode())
        # At a URL, a build of another split may have read the description before this one has written it.
        if output.is_local or _read_info(output, name)["splits"].get(spec.split) == entry:
            return
    raise ShardError(
        "other builds replace the description of the shard set again and again",
        where=output.locate(name),
        fix="run the same command again once they have ended",
    )


def _read_info(output: Storage, name: str) -> dict[str, Any]:
    if output.info(name) is None:
        return {"name": output.locate().rstrip("/").rpartition("/")[2], "splits": {}}
    info: dict[str, Any] = json.loads(output.read(name))
    return info
