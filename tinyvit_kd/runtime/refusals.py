"""What the operating system refused, as one of our errors, with advice that fits where the path came from."""

from __future__ import annotations

import errno
import os

from tinyvit_kd.errors import AND_AGAIN, DiskSpaceError, TinyVitKdError, reason_of, what_to_do

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Variables that say where libraries keep what they fetched, compiled or need for a moment.
FOLDERS = (
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "HF_HUB_CACHE", "HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"),
    *("XDG_CONFIG_HOME", "TMPDIR"),
)
_AT_HOME = (".cache", ".config", ".torch", ".triton")  # of HOME, where they do so unless told otherwise


def is_full_disk(error: OSError) -> bool:
    """Whether a disk, a quota or the largest size of a file left no room."""
    return error.errno in _FULL


def from_os_error(error: OSError) -> TinyVitKdError | None:
    """What the operating system refused, as one of ours; None where it names neither a file nor a shortage."""
    where, found = str(error.filename or ""), reason_of(error)
    if error.errno in _FULL:
        return DiskSpaceError("the disk is full", where=where, found=found, fix=f"free some space {AND_AGAIN}")
    if shortage := what_to_do(error, otherwise=""):
        return TinyVitKdError("the system has run out of a resource", where=where, found=found, fix=shortage)
    if error.filename is None:
        return None
    return TinyVitKdError("a file or folder cannot be used", where=where, found=found, fix=_about_path(where))


def _about_path(where: str) -> str:
    """What to do about a path: that of a library's cache comes from the environment, any other from the user."""
    folders = [(name, os.environ[name]) for name in FOLDERS if os.environ.get(name)]
    if home := os.environ.get("HOME"):
        folders += [("HOME", os.path.join(home, each)) for each in _AT_HOME]
    for name, folder in folders:
        if f"{os.path.abspath(where)}/".startswith(f"{os.path.abspath(folder)}/"):
            return f"set the environment variable {name} to a folder that can be written, or make that folder"
    return "correct the path or its permissions, and run the same command again"
