"""``torchrun``: torchrun, with the exit codes of the processes that it starts."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.runtime.agent import run_agent


def torchrun(arguments: Sequence[str]) -> int:
    """Run torchrun to its end.

    Args:
        arguments: of torchrun's command line.

    Returns:
        0, or the exit code that tells most of those of this machine's processes.

    Raises:
        Preempted: a signal asked torchrun to stop; its processes have ended.
        WorkerError: the machines did not meet.
        SystemExit: torchrun does not take these arguments.
    """
    return run_agent(arguments)
