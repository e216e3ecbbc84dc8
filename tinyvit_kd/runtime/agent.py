"""torchrun in this process, ending with what its processes ended with; by itself it answers 1 whatever happened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError
from torch.distributed.run import main

from tinyvit_kd.errors import WorkerError, said_by
from tinyvit_kd.runtime.files import require_open_files
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.signals import CRASHES, REQUEUE_EXIT_CODE, TERMINATION, Preempted, raising_on_signals

BUG, MISTAKE = 1, 2
_OPEN_FILES = 1 << 16  # this process may serve the job's store, to which each process of the job has two connections


def run_agent(arguments: Sequence[str]) -> int:
    """Run torchrun to its end.

    Returns:
        0, or the exit code that tells most of those of this machine's processes.

    Raises:
        Preempted: a signal asked torchrun to stop; its processes have ended.
        WorkerError: the machines did not meet.
        SystemExit: torchrun does not take these arguments.
    """
    require_open_files(_OPEN_FILES, 0)
    try:
        with raising_on_signals(_Stopped), saying("torchrun", speaks=False):  # its processes say how far they are
            main(list(arguments))
    except ChildFailedError as error:
        for rank, failure in sorted(error.failures.items()):
            note(f"rank {rank} {_ending(failure)}")
        return joint_exit_code(failure.exitcode for failure in error.failures.values())
    except SignalException as error:
        received = error.received if isinstance(error, _Stopped) else error.sigval.name
        what = f"stopped by {received}, which torchrun's processes were sent"
        raise Preempted(f"{what}; run the same command again to continue") from None
    except (RendezvousError, DistError) as error:
        raise WorkerError(
            "the machines of this torchrun did not meet, or have lost each other",
            found=said_by(error),
            expected="the same --rdzv_endpoint and --rdzv_id on all, and a port that they reach",
            fix="run the same command again on all of them",
        ) from error
    return 0


class _Stopped(SignalException):
    """What torch expects where a signal stops torchrun: after any other error it closes the job to other machines, too.

    torch raises its own from some signals, SIGUSR1 not among them, and only once it has started processes. These are
    sent SIGTERM, since SIGUSR1 would end Python's helper processes in their group.
    """

    def __init__(self, received: str) -> None:
        super().__init__(f"torchrun received {received}", TERMINATION)
        self.received = received


def joint_exit_code(codes: Iterable[int]) -> int:
    """The code that tells most: a mistake, then a bug, since other processes only lose their peer; else that all can
    go on. A negative code is that of a signal; a process that crashed by itself will do so again.
    """
    known = {BUG if -code in CRASHES else code for code in codes}
    return next((code for code in (MISTAKE, BUG) if code in known), REQUEUE_EXIT_CODE)


def _ending(failure: ProcessFailure) -> str:
    code = failure.exitcode
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {failure.signal_name()}"
