"""``torchrun``: torchrun, with the exit codes of the processes that it starts."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.runtime.agent import run_agent


def torchrun(arguments: Sequence[str]) -> int:
    """Run torchrun to its end, by the arguments of its command line; returns and raises what ``run_agent`` does."""
    return run_agent(arguments)
