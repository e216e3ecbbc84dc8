"""Where this user keeps what can be made or fetched again, and what lies there for one URL."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

_LONGEST = 80  # characters of a URL that are shown in a folder's name


def cache_folder(purpose: str) -> Path:
    """A folder below the user's cache folder: ``$XDG_CACHE_HOME`` or ``~/.cache``; it need not exist."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given and os.path.isabs(given):
        return Path(given) / "tinyvit_kd" / purpose
    home = os.path.expanduser("~")
    base = Path(home) / ".cache" if os.path.isabs(home) else Path(tempfile.gettempdir())
    return base / "tinyvit_kd" / purpose


def folder_name(url: str) -> str:
    """A name for the folder of a URL: its own words, and a hash that tells it from all others."""
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", url.partition("://")[2].strip("/"))[-_LONGEST:].strip("-.")
    return f"{words}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:8]}"
