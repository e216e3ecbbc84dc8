"""How far runs and dumps are, in a few words."""

from __future__ import annotations

from tinyvit_kd.analysis.jobs.liveness import ACTIVE
from tinyvit_kd.analysis.jobs.run_status import RunStatus
from tinyvit_kd.analysis.jobs.status_text import percent
from tinyvit_kd.analysis.jobs.store_status import StoreStatus
from tinyvit_kd.runtime.wording import counted, duration

ENDED = ("stopped", "failed", "killed")
LOOK = {"finished": "good", **dict.fromkeys((*ENDED, "silent", "unknown"), "bad")}


def run_state(status: RunStatus) -> str:
    """How far a run is; what ended it is told elsewhere."""
    if status.state == "finished":
        return "finished"
    known = status.state in ACTIVE and status.done is not None and status.total
    share = f" at {percent(status.done or 0, status.total or 1)}" if known else ""
    return f"{_state(status)}{share}{_left(status)}"


def store_state(status: StoreStatus) -> str:
    """How far a dump is."""
    blocks = (
        f"{status.present:,} of {counted(status.total, 'block')}" if status.present is not None and status.total else ""
    )
    if status.state == "finished":
        return f"complete, {blocks}"
    return ", ".join(part for part in (blocks, f"dump {_state(status)}{_left(status)}") if part)


def _state(status: RunStatus | StoreStatus) -> str:
    if status.age is None or status.state in ACTIVE:
        return "not finished" if status.state == "unknown" else status.state
    age = duration(status.age)
    if status.state == "silent":
        return f"silent for {age}"
    return f"not finished, last sign {age} ago" if status.state == "unknown" else f"{status.state} {age} ago"


def _left(status: RunStatus | StoreStatus) -> str:
    left = status.seconds_left if status.state in ACTIVE else None
    return f", {duration(left)} left" if left is not None else ""
