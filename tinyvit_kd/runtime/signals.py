"""Preemption: a signal asks the run to stop, at the next safe place or, where nothing can be lost, at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# BSD's EX_TEMPFAIL: "try again later". Schedulers requeue on it; docs and README name it.
REQUEUE_EXIT_CODE = 75
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_IDLE_GRACE, _BUSY_GRACE = 3.0, 60.0  # seconds, the second to write a checkpoint
_swallowed: list[int] = []
Handler = Callable[[int, FrameType | None], None]


class Preempted(SystemExit):
    """Raised where a signal asked to stop and all that was finished is kept; carries the exit code for requeueing."""

    def __init__(self, message: str) -> None:
        super().__init__(REQUEUE_EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Which signal, if any, has asked the run to stop."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """For what may take long and has nothing to save: a signal now raises ``Preempted``, an earlier one too.

        Raises:
            Preempted: from wherever the main thread is.
        """
        with _handling(self._note_and_leave):
            if self.signal is not None:
                _leave(self.signal, None)
            yield

    def _note_and_leave(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)  # where Python swallows what is raised, the flag stays
        _leave(number, None)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C means now
        self.signal = signal.Signals(number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1 and Ctrl-C into a flag while the context lasts."""
    request = StopRequest()
    with _handling(request._receive):
        raise_if_stopped()
        yield request


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """While the context lasts, and outside of the contexts above, these signals raise ``Preempted`` at once."""
    try:
        with _handling(_note_and_leave):
            yield
    finally:
        _swallowed.clear()


def raise_if_stopped() -> None:
    """Stop here if a signal asked to stop before, and whatever it interrupted swallowed that: some imports do.

    Raises:
        Preempted: it did.
    """
    if _swallowed:
        _leave(_swallowed[-1], None)


def ignore_signals() -> None:
    """Heed these signals no more."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _note_and_leave(number: int, frame: FrameType | None) -> None:
    _swallowed.append(number)
    _leave(number, frame)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise Preempted(f"stopped by {signal.Signals(number).name}; run the same command again to go on")


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def leave_with_torchrun() -> None:
    """Where torchrun started this process, stop as if asked to once torchrun was killed: else it would train on alone.

    To be called first of all, before torchrun can have gone.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        on_parents_death(_leave_orphaned)


def _leave_orphaned() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    # The handler may never run: connecting to peers that have gone does not return to Python for a long time.
    time.sleep(_IDLE_GRACE if signal.getsignal(signal.SIGTERM) == _note_and_leave else _BUSY_GRACE)
    os._exit(REQUEUE_EXIT_CODE)


def parents_id() -> int:
    """The process that started this one, also where it has gone by now.

    Where ``multiprocessing`` started this one it wrote that down before; the system only knows who has inherited it.
    """
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def on_parents_death(action: Callable[[], None]) -> None:
    """Call ``action``, in a thread of its own, once the process that started this one has gone."""
    parent = parents_id()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        action()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
