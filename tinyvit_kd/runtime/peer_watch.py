"""The threads that give and hear signs of life, and how they end a process whose peers are gone."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tinyvit_kd.runtime.lines import is_quiet
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.peers import BEAT_EVERY, Watch, lost_peer
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.runtime.wording import printable

_LAST_WORDS = 5.0  # seconds for them, as the disk of a run may have been that of the machine that is lost
_kept_whole = threading.RLock()
_agreed = threading.Event()  # all processes stop at the same step
_last_words: list[Callable[[str], None]] = []


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Give signs of life while the context lasts. Without its peers, end this process with the code for requeueing."""
    over = threading.Event()
    _agreed.clear()
    watch.begin()
    beats = threading.Thread(target=_keep_beating, args=(watch, over), name="signs-of-life", daemon=True)
    beats.start()
    threading.Thread(target=_keep_judging, args=(watch, over), name="peer-watch", daemon=True).start()
    try:
        yield
    except BaseException as error:
        watch.fails = not isinstance(error, SystemExit) or bool(error.code)
        raise
    finally:
        over.set()
        # A thread that is inside the store while Python ends would end it by SIGABRT.
        beats.join(2 * BEAT_EVERY)


def _keep_beating(watch: Watch, over: threading.Event) -> None:
    watch.exchange()
    while not over.wait(BEAT_EVERY):
        watch.exchange()
    watch.leave()


def _keep_judging(watch: Watch, over: threading.Event) -> None:
    # It never asks the store: over a link that is cut no answer comes, and no error either.
    while not over.wait(BEAT_EVERY / 2):
        verdict = watch.verdict()
        if verdict is None or _agreed.is_set():
            continue
        if over.wait(verdict.grace):
            return
        if _agreed.is_set():
            continue
        with _kept_whole:
            _end(verdict.found)


def leaving_together() -> None:
    """Mind peers no more: all have agreed to stop, and each closes what it has open, however long that takes."""
    _agreed.set()


@contextmanager
def kept_whole() -> Iterator[None]:
    """Let what is being written be finished first, though a peer is gone. Not for what waits for peers."""
    with _kept_whole:
        yield


@contextmanager
def last_words(tell: Callable[[str], None]) -> Iterator[None]:
    """Call ``tell`` with the message if this process is ended here while the context lasts."""
    _last_words.append(tell)
    try:
        yield
    finally:
        _last_words.remove(tell)


def _end(found: str) -> None:
    _end_in_any_case()
    message = str(lost_peer(found))
    if is_quiet():
        sys.stderr.write(f"{printable(message, lines=True)}\n")
        sys.stderr.flush()
    with suppress(OSError):
        warn(printable(message, lines=True))
    for tell in list(_last_words):
        tell(message)
    os._exit(
        REQUEUE_EXIT_CODE
    )  # not sys.exit: the main thread may hang in a collective operation, or in the driver of a device


def _end_in_any_case() -> None:
    timer = threading.Timer(_LAST_WORDS, os._exit, [REQUEUE_EXIT_CODE])
    timer.daemon = True
    with suppress(RuntimeError):  # the system allows no more threads
        timer.start()
