"""Class lists: what the numbers of a head or of labels stand for."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.errors import ConfigError

_SUFFIX = "_synsets.txt"


@dataclass(frozen=True)
class ClassList:
    """Classes in order: class i is ``ids[i]``, for example a WordNet id."""

    name: str
    ids: tuple[str, ...]

    @property
    def hash(self) -> str:
        """16 hex characters that follow from the ids and their order, not from the name."""
        return xxhash.xxh3_64_hexdigest("\n".join(self.ids).encode("utf-8", "surrogateescape"))


def load_class_list(name_or_path: str) -> ClassList:
    """Read a class list.

    Args:
        name_or_path: a text file with one id a line, or the name of one of timm's lists: ``imagenet``,
            ``imagenet22k`` (fall11, 21,841), ``imagenet21k_goog``, ``imagenet22k_ms``, ``imagenet12k``, ….

    Raises:
        ConfigError: there is no such file or list, or it is not a list of distinct ids.
    """
    path = Path(name_or_path)
    if path.is_file():
        return parse_class_list(path.stem, _read(path), str(path))
    known = _timm_lists()
    if name_or_path in known:
        return parse_class_list(name_or_path, _read(known[name_or_path]), name_or_path)
    raise ConfigError(
        "there is no such class list",
        where="class_list",
        found=name_or_path,
        expected=f"a text file with one id a line, or one of {', '.join(sorted(known))}",
    )


def class_map(source: ClassList, target: ClassList) -> npt.NDArray[np.int64]:
    """Where each class of ``target`` is in ``source``: int64 [len(target.ids)], -1 where it is not."""
    positions = {name: position for position, name in enumerate(source.ids)}
    return np.array([positions.get(name, -1) for name in target.ids], dtype=np.int64)


def _timm_lists() -> dict[str, Path]:
    # importlib.resources would import timm, which takes seconds and loads torch; only its files are wanted.
    found = importlib.util.find_spec("timm")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "data" / "_info"
    return {file.name.removesuffix(_SUFFIX): file for file in folder.glob(f"*{_SUFFIX}")}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("cannot read the class list", where=str(path), found=str(error)) from None


def parse_class_list(name: str, text: str, where: str) -> ClassList:
    """A class list from a text with one id per line.

    Args:
        where: path or URL of the text, for messages.

    Raises:
        ConfigError: a line is empty or repeated.
    """
    ids = tuple(line.strip() for line in text.rstrip().splitlines())
    repeated = sorted({each for each in ids if ids.count(each) > 1}) if len(set(ids)) < len(ids) else []
    if not ids or "" in ids or repeated:
        raise ConfigError(
            "not a class list",
            where=where,
            found=f"repeated lines: {', '.join(repeated[:5])}" if any(repeated) else "an empty line or file",
            expected="one distinct id a line",
        )
    return ClassList(name, ids)
