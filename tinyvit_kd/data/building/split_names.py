"""Names of splits, which are parts of the shards' names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from tinyvit_kd.errors import ConfigError

Content = TypeVar("Content")


def require_plain_name(split: str) -> None:
    """Refuse a name that cannot be a part of a shard's name.

    Raises:
        ConfigError: it has other characters than letters, digits and underscores.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ConfigError("a split cannot have this name", where="split", found=split, expected="letters, digits and _")


def plain_splits(source: Path, found: Mapping[str, Content]) -> dict[str, Content]:
    """Splits by their names in the source, with other characters than letters, digits and underscores changed to these.

    Raises:
        ConfigError: two would have the same name.
    """
    splits = {re.sub(r"\W", "_", name, flags=re.ASCII): content for name, content in found.items()}
    if len(splits) < len(found):
        raise ConfigError(
            "two splits of the source would have the same name",
            where=str(source),
            found=", ".join(found),
            expected="names of letters, digits and _, to which other characters are changed",
            fix="rename their folders",
        )
    return splits
