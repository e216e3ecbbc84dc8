"""How long a stage takes, from what there is to do and from rates; which part limits it, and what would relieve it.

Loading, computing and writing go on at the same time, so a stage lasts as long as its slowest part. What loading
processes and a network do on the same cores adds up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tinyvit_kd.planning.given import PARTS
from tinyvit_kd.planning.stage_plan import StagePlan
from tinyvit_kd.runtime.wording import counted

_MEGA = 1e6
_NO_GPU = "a GPU, more cores, or a smaller network"
_FASTER = "faster GPUs, or a smaller network"
_EVEN = 1.05  # parts whose times differ by less take as long
NAMES = {
    "views": "decoding and augmenting",
    "teacher": "the teacher",
    "student": "the student",
    "write": "writing the store",
    "read": "the disk",
}


@dataclass(frozen=True)
class Machine:
    """The cores that a run has.

    Attributes:
        cores: for loading processes of all processes together; None: one each.
        shared: cores that loading and computing share, of a machine without a GPU; None: they do not.
        threads: with which a network computes there.
    """

    cores: int | None = None
    shared: int | None = None
    threads: int = 1


@dataclass(frozen=True)
class Hours:
    """How long a stage takes.

    Attributes:
        seconds: by part, those whose rate is known.
        unknown: parts whose rate is not known.
        total: seconds of the stage; None where nothing is known; without the unknown parts it may be longer.
        limit: the slowest part.
        relief: what would make it as fast as the next one, for people; empty where there is no other.
        spare: what is more than enough, for people; empty where nothing is.
        balance: numbers that would do that, by setting.
    """

    seconds: dict[str, float]
    unknown: tuple[str, ...]
    total: float | None
    limit: str | None
    relief: str
    spare: str
    balance: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "seconds": self.total,
            "seconds_by_part": self.seconds,
            "rates_not_known": list(self.unknown),
            "limit": self.limit,
            "relief": self.relief,
            "spare": self.spare,
            "balance": self.balance,
        }


def hours_of(plan: StagePlan, rates: Mapping[str, float], machine: Machine) -> Hours | None:
    """How long a stage takes; None if it is not known how much there is to do.

    Args:
        rates: in the units of ``given.PARTS``, by part.
    """
    if plan.work is None:
        return None
    amounts = {part: plan.work.of(part) for part in PARTS}
    seconds = {
        part: amount / (rates[part] * _count(part, plan, machine))
        for part, amount in amounts.items()
        if amount and part in rates
    }
    # A disk is only counted where its rate was given: others are mostly fast enough, and it cannot be measured here.
    unknown = tuple(part for part, amount in amounts.items() if amount and part not in rates and part != "read")
    if not seconds:
        nothing_to_do = not any(amounts.values())
        return Hours({}, unknown, 0.0 if nothing_to_do else None, None, "", "", {})
    total = _total(plan, seconds, machine)
    limit = max(seconds, key=lambda part: seconds[part])
    relief, balance = _relief(plan, seconds, limit, machine)
    spare = ""
    if limit in ("teacher", "student") and "views" in seconds:
        needed = _count("views", plan, machine) * seconds["views"] / seconds[limit]
        workers = max(1, math.ceil(needed / plan.processes))
        if workers < plan.workers:
            spare = f"{counted(workers, 'worker')} per process in place of {plan.workers} would do for these networks"
            balance["workers"] = workers
    return Hours(seconds, unknown, total, limit, relief, spare, balance)


def _count(part: str, plan: StagePlan, machine: Machine) -> float:
    """How many of them work at the same time."""
    if part == "views":
        loading = max(1, plan.workers) * plan.processes
        return loading if machine.cores is None else min(loading, machine.cores)
    return _MEGA if part == "read" else plan.processes


def _total(plan: StagePlan, seconds: Mapping[str, float], machine: Machine) -> float:
    network = seconds.get("teacher", seconds.get("student", 0.0))
    views = seconds.get("views", 0.0)
    others = max((value for part, value in seconds.items() if part in ("write", "read")), default=0.0)
    if not plan.workers:  # the main process makes batches between the network's steps
        return max(views + network, others)
    if machine.shared is not None:
        work = views * max(1, plan.workers) + network * machine.threads + seconds.get("write", 0.0)
        return max(views, network, others, work / machine.shared)
    return max(views, network, others)


def _relief(plan: StagePlan, seconds: Mapping[str, float], limit: str, machine: Machine) -> tuple[str, dict[str, int]]:
    """What would make the slowest part as fast as the next one, in words and in numbers by setting."""
    others = {part: value for part, value in seconds.items() if part != limit}
    if not others:
        return _without_numbers(plan, limit, machine), {}
    next_part = max(others, key=lambda part: others[part])
    factor = seconds[limit] / others[next_part]
    if factor < _EVEN:
        return f"nothing alone: {NAMES[next_part]} takes nearly as long", {}
    as_fast = f"would be as fast as {NAMES[next_part]}"
    if limit == "views":
        workers = math.ceil(_count("views", plan, machine) * factor / plan.processes)
        text = f"{workers} workers per process in place of {plan.workers}, each on a core of its own, {as_fast}"
        return f"{text}{_more_per_decode(plan)}", {"workers": workers}
    if limit in ("teacher", "student"):
        return _more_gpus(plan, next_part, factor, machine)
    if limit == "write":
        processes = math.ceil(plan.processes * factor)
        return f"{processes} processes in place of {plan.processes} {as_fast}", {"processes": processes}
    return f"a disk {factor:.1f} times as fast {as_fast}, or shards on local disks{_more_per_decode(plan)}", {}


def _more_gpus(plan: StagePlan, next_part: str, factor: float, machine: Machine) -> tuple[str, dict[str, int]]:
    """More GPUs, as many as the next part keeps up with."""
    if machine.shared is not None:
        return _NO_GPU, {}
    gpus = _sharing_lanes(plan, int(plan.processes * factor))
    if gpus <= plan.processes:
        return _FASTER, {}
    still = f"up to {gpus} GPUs in place of {plan.processes}, which {NAMES[next_part]} keeps up with"
    return f"{still}; {_FASTER}", {"gpus": gpus}


def _without_numbers(plan: StagePlan, limit: str, machine: Machine) -> str:
    if machine.shared is not None and limit in ("teacher", "student"):
        return _NO_GPU
    if limit == "views":
        return f"more workers{_more_per_decode(plan)}"
    return {"teacher": "more GPUs", "student": "more GPUs", "write": "more processes", "read": "a faster disk"}[limit]


def _more_per_decode(plan: StagePlan) -> str:
    """More views of each decoded image, where that is possible."""
    if plan.mixes:
        return ""
    if plan.stage == "dump-logits" and plan.store is not None:
        most = plan.store.blocks // max(1, plan.images or 1)
        if plan.views_per_decode < most:
            return f"; a view costs less with more than {plan.views_per_decode} views_per_decode, of {most}"
    if plan.stage == "pretrain":
        return f"; a view costs less with more than {plan.views_per_decode} schedule.views_per_sample, from one decode"
    return ""


def _sharing_lanes(plan: StagePlan, gpus: int) -> int:
    """The largest number of processes up to ``gpus`` that the lanes can be shared by."""
    if plan.lanes is None:
        return gpus
    return max((number for number in range(1, gpus + 1) if plan.lanes % number == 0), default=1)
