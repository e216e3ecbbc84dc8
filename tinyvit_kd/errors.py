"""Every error a user can cause or meet, in one family: what, where, found, expected, what to do.

``raise`` one of these for a user's mistake or a fault of the outside world; ``assert`` is for our own bugs.
Only ``cli.py`` turns them into a paragraph and an exit code.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any


class TinyVitKdError(Exception):
    """Base of all errors of this package.

    Args:
        what: one sentence that says what is wrong.
        where: file, field or sample that it concerns.
        found: what was there.
        expected: what would have been right.
        fix: what the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", found: str = "", expected: str = "", fix: str = "") -> None:
        self.what, self.where, self.found, self.expected, self.fix = what, where, found, expected, fix
        super().__init__(what)

    def __str__(self) -> str:
        """One paragraph of labelled sentences; empty parts are left out."""
        parts = [self.what.rstrip(".") + "."]
        labelled = (
            ("Where", self.where),
            ("Found", self.found),
            ("Expected", self.expected),
            ("To do", self.fix),
        )
        parts += [f"{label}: {text.rstrip('.')}." for label, text in labelled if text]
        return " ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel from loader workers to the main process; keyword arguments need help to pickle.
        return _rebuild, (type(self), self.__dict__.copy())


def _rebuild(kind: type[TinyVitKdError], state: dict[str, Any]) -> TinyVitKdError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    Exception.__init__(error, state["what"])
    return error


class ConfigError(TinyVitKdError, ValueError):
    """A recipe, an option or a combination of them is wrong."""


class ShardError(TinyVitKdError, OSError):
    """A shard set, a shard or its index is missing, unreadable or not what it was."""

    # OSError would otherwise format itself as "[Errno …]".
    __str__ = TinyVitKdError.__str__


class StoreError(TinyVitKdError):
    """The store as a whole is missing, of another kind, or does not belong to what it is used with."""


class ManifestMismatchError(StoreError, ValueError):
    """A field of the manifest differs from what this run would use."""


class FormatVersionError(StoreError, ValueError):
    """The store was written in a format that this version does not read."""


class BlockMissingError(StoreError, LookupError):
    """A block has not been dumped."""


class BlockCorruptError(StoreError, ValueError):
    """A block is there, but its checksum, header or key hash is wrong."""


class BlockForeignError(BlockCorruptError):
    """A block is whole, but is not the one that belongs in its place.

    Args:
        differing: fields of the block's header that are not as expected.
    """

    def __init__(self, what: str, *, differing: tuple[str, ...], **parts: str) -> None:
        super().__init__(what, **parts)
        self.differing = differing


class StoreArrayError(StoreError):
    """The description of a shard's array is missing or damaged; its blocks may be whole."""


class StoreUnreadableError(StoreError):
    """The system refused to read a part of the store; that says nothing of the part itself."""


class ReplayError(TinyVitKdError, ValueError):
    """A replayed view is not, bit for bit, the view that the teacher saw."""


class TransformError(TinyVitKdError, ValueError):
    """A recipe's own transform fails, gives no uint8 view, or gives views that do not follow from their seeds."""


class RendererError(TinyVitKdError, RuntimeError):
    """The renderer of this machine makes other bytes than the one that defines views."""


class CheckpointError(TinyVitKdError, ValueError):
    """A checkpoint or model file is missing, unreadable or fits another model."""


class NonFiniteLossError(TinyVitKdError, ArithmeticError):
    """The loss became NaN or infinite."""


class WorkerError(TinyVitKdError, RuntimeError):
    """A process of this run was killed or died; the run can be started again."""


class StalledError(WorkerError, TimeoutError):
    """No data came for too long: a storage hangs; the run can be started again."""

    __str__ = TinyVitKdError.__str__


class BusyError(TinyVitKdError):
    """Another process is writing to the same folder."""


class DiskSpaceError(TinyVitKdError, OSError):
    """There is less free disk space than the work needs."""

    __str__ = TinyVitKdError.__str__


def reason_of(error: OSError) -> str:
    """What the system said, without the path."""
    return error.strerror or str(error) or type(error).__name__


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
_AGAIN = "and run the same command again: what was written whole is kept, the rest is made"


def from_os_error(error: OSError) -> TinyVitKdError | None:
    """What the operating system refused, as one of ours; None where it names neither a file nor a shortage."""
    where, found = str(error.filename or ""), error.strerror or type(error).__name__
    if error.errno in _FULL:
        return DiskSpaceError("the disk is full", where=where, found=found, fix=f"free some space {_AGAIN}")
    if error.errno in _SHORT:
        fix = f"raise the limit (ulimit -n for open files) or lower runtime.workers, {_AGAIN}"
        return TinyVitKdError("the system is short of something", where=where, found=found, fix=fix)
    if error.filename is None:
        return None
    return TinyVitKdError(
        "the operating system refused a file or folder",
        where=where,
        found=found,
        fix="correct the path in the recipe, or its permissions",
    )


def error_chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and the ones that it came from or that it interrupted, the latest first."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


class BadImageError(TinyVitKdError, ValueError):
    """An image cannot be decoded; the sample becomes a hole unless ``on_bad_image`` is ``error``."""

    kind = "unreadable"

    def __init__(self, what: str) -> None:
        super().__init__(what, found=self.kind)


class TruncatedImageError(BadImageError):
    """An image's file is cut short."""

    kind = "truncated"


class ImageTooLargeError(BadImageError):
    """An image has more pixels than ``max_pixels``, or than Pillow opens."""

    kind = "too_large"
