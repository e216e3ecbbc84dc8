"""What disks that several machines share do: errors that pass, and files that other machines see a little later.

A file server that is restarted, or a client that has lost touch with it for a moment, answers with an error once. NFS
keeps the attributes and names of a folder for up to a minute (acdirmax), so that a file that another machine has
written is not there yet.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.log import warn_once

T = TypeVar("T")

VISIBLE_WITHIN = 90.0  # seconds after which a machine must see what another one wrote; acdirmax of NFS is 60
LOCKS = "TINYVIT_KD_LOCKS"  # environment variable: off for file systems on which locks fail, hang or are never released
_WAITS = (0.05, 0.5, 2.0)  # seconds before each repetition
_PASSING = frozenset(
    {
        errno.ESTALE,  # NFS: the file was replaced, or the server was restarted
        errno.EIO,  # of soft mounts, FUSE and Lustre where a server does not answer; of a bad disk, it does not pass
        errno.ETIMEDOUT,
        errno.EREMOTEIO,
        errno.ENOTCONN,  # Lustre and FUSE, while they connect again
        errno.ESHUTDOWN,
    }
)
_SILLY = re.compile(r"\.nfs[0-9a-f]{8,32}|\.fuse_hidden[0-9a-f]{8,32}")


def patiently(action: Callable[[], T], where: str, before_retry: Callable[[], None] = lambda: None) -> T:
    """What an action on a file returns; after an error that may pass, it is tried again up to three times.

    Args:
        action: may be repeated, whatever came of it the first time.
        where: the file, for a line that is printed once for each kind of error.
        before_retry: called before each repetition.

    Raises:
        OSError: the error has not passed, or is of another kind.
    """
    for wait in _WAITS:
        try:
            return action()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            warn_once(("passing", error.errno), f"{where}: {error.strerror}; trying again")
            before_retry()
            time.sleep(wait)
    return action()


def await_visible(is_there: Callable[[], bool], seconds: float | None = None) -> bool:
    """Wait for what another machine has written to a shared disk to be seen here.

    Args:
        seconds: ``VISIBLE_WITHIN`` by default.

    Returns:
        whether it is there.
    """
    deadline = time.monotonic() + (VISIBLE_WITHIN if seconds is None else seconds)
    pause = 0.05
    while not is_there():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, 2.0)  # each look is a request to the server
    return True


def is_deleted(name: str) -> bool:
    """Whether a name is what NFS or FUSE calls a file that was deleted while a process had it open."""
    return name.startswith(".") and _SILLY.fullmatch(name) is not None


def locks_are_used(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether folders are locked; ``TINYVIT_KD_LOCKS=off`` says that they are not.

    Raises:
        ConfigError: the variable has another value than on or off.
    """
    value = environment.get(LOCKS, "on")
    if value not in ("on", "off"):
        raise ConfigError(
            "a variable of the environment has an unknown value",
            where=LOCKS,
            found=value,
            expected="on or off",
            fix=f"unset it, or set it to off where the file system's locks are not to be trusted ({LOCKS}=off)",
        )
    return value == "on"
