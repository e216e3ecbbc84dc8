"""Every error a user can cause or meet, in one family: what, where, found, expected, what to do.

``raise`` one of these for a user's mistake or a fault of the outside world; ``assert`` is for our own bugs.
Only ``cli.py`` turns them into a paragraph and an exit code. The sentences are for people: code that has to tell
errors apart looks at their class and at its fields. What other libraries raise is told apart in
``runtime/foreign_errors.py``.
"""

from __future__ import annotations

import errno
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Self


class TinyVitKdError(Exception):
    """Base of all errors of this package.

    Args:
        what: one sentence that says what is wrong.
        where: file, field or sample that it concerns.
        found: what was there.
        expected: what would have been right.
        fix: what the reader can do about it.

    Attributes:
        can_be_retried: whether the same command may succeed later, without any change; it sets the exit code.
    """

    can_be_retried: ClassVar[bool] = False

    @property
    def may_pass(self) -> bool:
        """Whether this error, or one of this family that it was raised from, can be retried."""
        return self.can_be_retried or (isinstance(self.__cause__, TinyVitKdError) and self.__cause__.may_pass)

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

    def with_context(self, *, where: str = "", fix: str = "") -> Self:
        """Add what only a caller knows, and return the error.

        Args:
            where: appended to what the error says already.
            fix: in place of what the error says already.
        """
        self.where = "; ".join(part for part in (self.where, where) if part)
        self.fix = fix or self.fix
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel from loader workers to the main process; keyword arguments need help to pickle.
        kept = {} if self.may_pass == self.can_be_retried else {"can_be_retried": True}  # its cause does not travel
        return _rebuild, (type(self), self.__dict__ | kept)


def _rebuild(kind: type[TinyVitKdError], state: dict[str, Any]) -> TinyVitKdError:
    # Not kind.__new__, which Python refuses where another built-in class stands before OSError.
    error = OSError.__new__(kind) if issubclass(kind, OSError) else Exception.__new__(kind)
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


class StoreUnreadableError(StoreError):
    """The system refused to read a part of the store, which may be whole."""


class StoreArrayError(StoreError):
    """The description of a shard's array is missing or damaged; its blocks may be whole."""


@dataclass(frozen=True)
class FieldDifference:
    """A field of a manifest with another value than expected.

    Attributes:
        field: its dotted name, such as ``teacher.weights_hash``.
        stored: its value in the manifest.
        expected: the value that it is compared with; None where there is no such field.
    """

    field: str
    stored: Any
    expected: Any

    def describe(self, other: str) -> str:
        """Both values in one clause; of two lists, their lengths or the first entry that differs.

        Args:
            other: what has the expected value.
        """
        stored, expected = self.stored, self.expected
        if not (isinstance(stored, tuple) and isinstance(expected, tuple)):
            stored, expected = told_apart(stored, expected)
            return f"{self.field} is {stored} in the store and {expected} in {other}"
        if len(stored) != len(expected):
            return f"{self.field} has {len(stored)} entries in the store and {len(expected)} in {other}"
        first = next(i for i, (a, b) in enumerate(zip(stored, expected, strict=True)) if a != b)
        one, another = told_apart(stored[first], expected[first])
        return f"{self.field}[{first}] is {one} in the store and {another} in {other}"


class ManifestMismatchError(StoreError, ValueError):
    """Fields of the manifest differ from what they are compared with.

    Args:
        differences: those fields, with both values.
        **parts: ``where``, ``found``, ``expected`` and ``fix``, as of every error.
    """

    def __init__(self, what: str, *, differences: tuple[FieldDifference, ...], **parts: str) -> None:
        super().__init__(what, **parts)
        self.differences = differences


class FormatVersionError(StoreError, ValueError):
    """The store was written in a format that this version does not read."""


class BlockMissingError(StoreError, LookupError):
    """A block has not been dumped."""


class BlockCorruptError(StoreError, ValueError):
    """A block is there, but its checksum, header or key hash is wrong."""


class BlockForeignError(BlockCorruptError):
    """A block is whole, but it is another one than it should be.

    Args:
        differing: names of its header's fields that differ, such as ``manifest_hash``.
        **parts: ``where``, ``found``, ``expected`` and ``fix``, as of every error.
    """

    def __init__(self, what: str, *, differing: tuple[str, ...], **parts: str) -> None:
        super().__init__(what, **parts)
        self.differing = differing


class ReplayError(TinyVitKdError, ValueError):
    """A replayed view is not, bit for bit, the view that the teacher saw."""


class BadImageError(TinyVitKdError, ValueError):
    """An image cannot be decoded; the sample becomes a hole unless ``on_bad_image`` is ``error``."""

    kind: ClassVar[str] = "unreadable"

    def __init__(self, what: str) -> None:
        super().__init__(what, found=self.kind)


class TruncatedImageError(BadImageError):
    """An image's file is cut short."""

    kind = "truncated"


class ImageTooLargeError(BadImageError):
    """An image has more pixels than ``max_pixels``, or than Pillow opens."""

    kind = "too_large"


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

    can_be_retried = True


class StalledError(WorkerError, TimeoutError):
    """No data came for too long: a storage hangs; the run can be started again."""

    __str__ = TinyVitKdError.__str__


class BusyError(TinyVitKdError):
    """Another process is writing to the same folder."""

    can_be_retried = True


class DiskSpaceError(TinyVitKdError, OSError):
    """There is less free disk space than the work needs."""

    __str__ = TinyVitKdError.__str__


class StorageError(TinyVitKdError, OSError):
    """An object store or a web server refuses a request; ``kind`` says why (``storage.refusals.Kind``)."""

    kind: str = ""
    __str__ = TinyVitKdError.__str__


class StorageUnavailableError(StorageError):
    """An object store or a web server does not answer, or is overloaded; the run can be started again."""

    can_be_retried = True


def told_apart(one: Any, another: Any) -> tuple[Any, Any]:
    """Two values for a message: texts that differ only in their form of Unicode, and so look alike, are escaped."""
    if not (isinstance(one, str) and isinstance(another, str)) or one == another:
        return one, another
    look_alike = unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", another)
    return (escaped(one), escaped(another)) if look_alike else (one, another)


def escaped(text: str) -> str:
    """A text in which every letter beyond ASCII is written as its number."""
    return text.encode("ascii", "backslashreplace").decode()


def reason_of(error: OSError) -> str:
    """What the system said, without the path."""
    return error.strerror or str(error) or type(error).__name__


def said_by(error: BaseException) -> str:
    """What an error says, in one line of plain words; its type where it says nothing."""
    if isinstance(error, OSError):
        return f"{error.what} ({error.found})" if isinstance(error, StorageError) else reason_of(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return str(error).partition("\n")[0] or type(error).__name__


AND_AGAIN = "and run the same command again: finished files are kept, and the rest is made"
FEWER_PROCESSES = (
    "raise the limit of processes and threads (ulimit -u, or the pids limit of the container or job), or use fewer: "
    f"runtime.workers and runtime.threads of a recipe, or --processes; {AND_AGAIN.removeprefix('and ')}"
)
LESS_MEMORY = (
    "free memory, or use less: batch_size or micro_batch_size, runtime.workers and runtime.prefetch of a recipe, or "
    f"--processes; {AND_AGAIN.removeprefix('and ')}"
)
_SHORT = {
    errno.EMFILE: "raise the limit of open files (ulimit -n), or lower runtime.workers and runtime.prefetch of the "
    f"recipe, or --processes, {AND_AGAIN}",
    errno.ENFILE: f"close other programs on this machine, all of which together have too many files open, {AND_AGAIN}",
    errno.ENOMEM: LESS_MEMORY,
    errno.EAGAIN: FEWER_PROCESSES,
}


def what_to_do(error: BaseException, otherwise: str) -> str:
    """The advice that fits what the system or a storage refused; ``otherwise`` where it was not short of anything."""
    if isinstance(error, StorageError | MemoryError):
        return error.fix if isinstance(error, StorageError) else LESS_MEMORY
    return _SHORT.get(error.errno or 0, otherwise) if isinstance(error, OSError) else otherwise
