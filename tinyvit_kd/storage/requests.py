"""One request to an object store: made again, with backoff and jitter, where that may help; counted; told plainly."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from tinyvit_kd.errors import TinyVitKdError
from tinyvit_kd.runtime import request_counts as counts
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.clients import FIRST_WAIT, LONGEST_WAIT
from tinyvit_kd.storage.refusals import Kind, kind_of, refusal

T = TypeVar("T")

PATIENCE = 60.0  # seconds for which a request is made again
LEAST = 3  # times that it is made, though an answer be waited for that long
_CREDENTIAL_TRIES = 2  # a machine's own service for credentials may be starting


def requesting(action: str, url: str, request: Callable[[], T], least: int = LEAST) -> T:
    """Make a request until it succeeds, is refused in a way that no repetition mends, or a minute has passed.

    Args:
        least: times that it is made, however long that takes; 1 where the client repeats its parts by itself.

    Raises:
        FileNotFoundError: there is no such object.
        FileExistsError: there is one, and there was to be none.
        StorageError: what else came of it; a StorageUnavailableError if it may succeed later.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_random_exponential

    from tinyvit_kd.runtime.shared_memory import forbid_forks  # imports torch, which paths do without

    forbid_forks()
    doing(f"{action} {url}")
    tries = 0

    def attempt() -> T:
        nonlocal tries
        tries += 1
        counts.add(requests=1)
        return request()

    def again(error: BaseException) -> bool:
        if not isinstance(error, Exception) or isinstance(error, TinyVitKdError):
            return False
        kind = kind_of(error)
        return kind == "unavailable" or (kind == "credentials" and _is_asked_here(error) and tries < _CREDENTIAL_TRIES)

    retrying = Retrying(
        retry=retry_if_exception(again),
        stop=stop_after_delay(PATIENCE) & stop_after_attempt(least),
        wait=wait_random_exponential(FIRST_WAIT, LONGEST_WAIT),
        before_sleep=_note,
        reraise=True,
    )
    try:
        return retrying(attempt)
    except TinyVitKdError:  # there is no client
        raise
    except Exception as error:
        raise _told(error, kind_of(error), action, url, tries) from error


def _is_asked_here(error: BaseException) -> bool:
    """Whether it was a service for this machine's credentials that did not give them."""
    return any(part in str(error) for part in ("169.254.", "metadata", "/latest/api/token"))


def _note(state: Any) -> None:
    del state
    counts.add(refused=1)


def _told(error: Exception, kind: Kind, action: str, url: str, tries: int) -> Exception:
    if kind == "missing":
        return FileNotFoundError(errno.ENOENT, "there is no such object", url)
    if kind == "exists":
        return FileExistsError(errno.EEXIST, "there is such an object already", url)
    if kind == "unknown" and not _is_foreign(error):
        return error  # a fault of our own
    return refusal(error, kind, action, url, tries)


def _is_foreign(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in ("obstore", "pyo3_object_store", "botocore", "boto3", "google")
