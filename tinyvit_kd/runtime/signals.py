"""Preemption: a signal stops the run, at the next safe point or, if nothing can be lost, at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from types import FrameType
from typing import Literal

from tinyvit_kd.errors import TinyVitKdError, said_by

# BSD's EX_TEMPFAIL: "try again later". Schedulers requeue on it; docs and README name it.
REQUEUE_EXIT_CODE = 75
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
TERMINATION = signal.SIGTERM  # which any program can be asked to end by
CRASHES = (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE)  # SIGABRT is also how NCCL ends a process without peers
_IDLE_GRACE = 3.0  # seconds to leave in, if there is nothing to save
_BUSY_GRACE = 60.0  # seconds to write a checkpoint in
_received: list[int] = []  # signals that raised ``Preempted``, which what they interrupted may have swallowed
_leaving: list[Preempted] = []  # what ends this process, after something was saved
Handler = Callable[[int, FrameType | None], None]


class Preempted(SystemExit):
    """A signal asked to stop. All finished work is kept; the exit code asks a scheduler to requeue."""

    def __init__(self, message: str) -> None:
        super().__init__(REQUEUE_EXIT_CODE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class AgreedStop(Preempted):
    """A stop on which all processes of a job have agreed between the same two steps, so that each can save there."""


def ending_by(error: BaseException) -> tuple[Literal["stopped", "failed"], str]:
    """How an error ends a job, and what to tell of it: whoever asked it to stop has not made it fail."""
    stopped = isinstance(error, Preempted | KeyboardInterrupt)
    return "stopped" if stopped else "failed", str(error) if isinstance(error, TinyVitKdError) else said_by(error)


class StopRequest:
    """Whether a signal has asked the run to stop, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def ask(self) -> None:
        """Ask the run to stop, as a signal does: something else has made that necessary."""
        self.signal = self.signal or signal.SIGTERM

    @contextmanager
    def leaving_at_once(self) -> Iterator[None]:
        """Let signals raise ``Preempted`` while the context lasts, for long work that has nothing to save.

        Raises:
            Preempted: at the start, if a signal came before; then wherever the main thread is when one comes.
        """
        with _handling(self._note_and_leave):
            if self.signal is not None:
                _leave(self.signal, None)
            yield

    def _note_and_leave(self, number: int, _frame: FrameType | None) -> None:
        _let_go_of_a_closed_terminal(number)
        self.signal = signal.Signals(number)  # the flag stays if Python swallows the exception
        _leave(number, None)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        _let_go_of_a_closed_terminal(number)
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C means at once
        self.signal = signal.Signals(number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn SIGTERM, SIGUSR1, SIGHUP and Ctrl-C into a flag while the context lasts.

    If it ends by a stop, a signal that comes again interrupts nothing on the way out, where the last word is what has
    been saved: a scheduler and torchrun both send one. Ctrl-C still does.
    """
    request = StopRequest()
    with _handling(request._receive):
        raise_if_stopped()
        try:
            yield request
        except Preempted as stop:
            _leaving.append(stop)
            raise


@contextmanager
def finishing_first() -> Iterator[None]:
    """Let these signals wait while the context lasts, for what a stop has asked for; a second Ctrl-C means at once."""
    with _handling(StopRequest()._receive):
        yield


@contextmanager
def leave_on_signals() -> Iterator[None]:
    """Let these signals raise ``Preempted`` at once, while the context lasts and outside of the contexts above.

    Python swallows what is raised while it removes an object, and would print a traceback of it; the signal is noted.
    """
    told = sys.unraisablehook
    _leaving.clear()  # a caller of Python's may have caught an earlier one
    sys.unraisablehook = lambda found: None if isinstance(found.exc_value, Preempted) else told(found)
    try:
        with _handling(_note_and_leave):
            yield
    finally:
        sys.unraisablehook = told
        _received.clear()


@contextmanager
def raising_on_signals(error: Callable[[str], BaseException]) -> Iterator[None]:
    """Let these signals raise an error that somebody else's code expects, while the context lasts.

    Args:
        error: makes it from the signal's name.
    """

    def handler(number: int, _frame: FrameType | None) -> None:
        _let_go_of_a_closed_terminal(number)
        raise error(signal.Signals(number).name)

    with _handling(handler):
        yield


def raise_if_stopped() -> None:
    """Stop here if a signal came earlier and its exception was swallowed by what it interrupted; some imports do that.

    Raises:
        Preempted: a signal came earlier.
    """
    if _received:
        _leave(_received[-1], None)


def ignore_signals() -> None:
    """Ignore these signals from now on, and after the contexts above, too."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # see below


@contextmanager
def starting_processes(method: str | None) -> Iterator[None]:
    """Start processes in here that are going to ignore these signals, and take seconds until they can.

    A process that is started anew has no handlers. Until it ignores signals, they are kept back: one that reaches the
    whole group would end it, and the main process would take that for a fault. The main process heeds them at the end:
    torch cannot take down a loader that was half made without complaint.

    Args:
        method: how they are started; a forked one has its parent's handlers at once.
    """
    if method != "spawn":
        yield
        return
    held: list[int] = []
    may_handle = threading.current_thread() is threading.main_thread()
    try:
        with _handling(lambda number, _: held.append(number)) if may_handle else nullcontext(), _signals_kept_back():
            yield
    finally:
        for number in held[:1]:
            signal.raise_signal(number)


@contextmanager
def _signals_kept_back() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        # Python's own helper, which the first of them needs. As it starts, it lets two of the signals through.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _note_and_leave(number: int, frame: FrameType | None) -> None:
    _let_go_of_a_closed_terminal(number)
    if _leaving and number != signal.SIGINT:
        return
    _received.append(number)
    _leave(number, frame)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise Preempted(f"stopped by {signal.Signals(number).name}; run the same command again to continue")


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number in STOP_SIGNALS if not _is_for_nobody(number)}
    try:
        yield
    finally:
        for number, handler_before in previous.items():
            if signal.getsignal(number) == handler:  # else the process is on its way out, and ignores it
                signal.signal(number, handler_before)


def _is_for_nobody(number: int) -> bool:
    """Whether nohup, or whoever else started this process, has made it deaf to the closing of its terminal."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def _let_go_of_a_closed_terminal(number: int) -> None:
    """On SIGHUP, send to nowhere what would be written to a terminal that is gone: each write would fail."""
    if number != signal.SIGHUP:
        return
    for descriptor in (1, 2):
        with suppress(OSError):  # it may be closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def leave_with_torchrun() -> None:
    """If torchrun started this process, stop it once torchrun is killed, as on a signal. Else it would train on alone.

    Call this before anything that takes time.

    Raises:
        Preempted: torchrun is gone already.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    parent = parents_id()
    if adopts_orphans(parent):
        raise Preempted("torchrun, which started this process, is gone; run the same command again to continue")
    on_parents_death(_leave_orphaned, parent)


def adopts_orphans(pid: int) -> bool:
    """Whether a process is one that the system makes the parent of those whose own has died, and is not torchrun.

    In a container torchrun itself may be process 1; as a program it is Python. A user's systemd adopts, too.
    """
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            program = os.path.basename(file.read().partition(b"\0")[0])
    except OSError:  # no such system, or process 1 is not shown to other users: then it is not theirs
        program = b""
    return program == b"systemd" or (pid == 1 and not program.startswith(b"python"))


def _leave_orphaned() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    # The handler may not run: connecting to peers that have gone may not return to Python for a long time.
    time.sleep(_IDLE_GRACE if signal.getsignal(signal.SIGTERM) == _note_and_leave else _BUSY_GRACE)
    os._exit(REQUEUE_EXIT_CODE)


def parents_id() -> int:
    """Process id of the parent that started this process, even if it has gone by now.

    ``multiprocessing`` recorded it at the start. The system only knows the current parent, which may have adopted this
    process.
    """
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def on_parents_death(action: Callable[[], None], parent: int | None = None) -> None:
    """Call ``action`` in a thread of its own once the process that started this one has gone.

    Args:
        parent: what ``parents_id`` returned, if it was asked earlier.
    """
    known = parents_id() if parent is None else parent

    def watch() -> None:
        while os.getppid() == known:
            time.sleep(0.5)
        action()

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
