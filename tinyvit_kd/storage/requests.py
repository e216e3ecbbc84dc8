"""One request to an object store: asked again, with backoff and jitter, where that may help; counted; told plainly."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

from tinyvit_kd.runtime.watchdog import doing

T = TypeVar("T")
COUNTS: Counter[str] = Counter()
"""Of this process: requests, and those that were refused and asked again."""

_ATTEMPTS = 8
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 10.0  # seconds


def requesting(action: str, url: str, request: Callable[[], T]) -> T:
    """Make a request until it succeeds, or is refused in a way that no repetition mends.

    Raises:
        FileNotFoundError, FileExistsError, OSError: what came of it.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    def note(state: Any) -> None:
        del state
        COUNTS["refused"] += 1

    doing(f"{action} {url}")
    retrying = Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(_FIRST_WAIT, _LONGEST_WAIT),
        before_sleep=note,
        reraise=True,
    )
    COUNTS["requests"] += 1
    try:
        return retrying(request)
    except Exception as error:
        raise _as_os_error(error, url) from error


def _may_pass(error: BaseException) -> bool:
    from obstore.exceptions import (
        AlreadyExistsError,
        BaseError,
        NotSupportedError,
        PermissionDeniedError,
        UnauthenticatedError,
    )

    return isinstance(error, BaseError) and not isinstance(
        error, AlreadyExistsError | NotSupportedError | PermissionDeniedError | UnauthenticatedError
    )


def _as_os_error(error: Exception, url: str) -> Exception:
    from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError

    first = str(error).partition("\n")[0]
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(2, first, url)
    if isinstance(error, AlreadyExistsError):
        return FileExistsError(17, first, url)
    if isinstance(error, NotSupportedError):
        return OSError(errno.EOPNOTSUPP, first, url)
    return OSError(5, first, url) if isinstance(error, BaseError) else error
