"""Names of what the processes of a search share, which are those of its files and claims; and what a name says.

Imports nothing: whoever looks at searches from outside starts in a moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_TASK = re.compile(r"round-(\d+)\.(.+)\.part-(\d+)(?:\.seed-(\d+))?")
_PLAN = re.compile(r"round-(\d+)\.plan")
_ROUND = re.compile(r"round-(\d+)\.")


@dataclass(frozen=True)
class TaskName:
    """What the name of a task says.

    Attributes:
        name: itself.
        number: of the round; 0: of the search's base.
        shape: name of the candidate's.
        part: of the training, from 1 on.
        seed: from 0 on.
    """

    name: str
    number: int
    shape: str
    part: int
    seed: int


def task_name(number: int, shape: str, part: int, seed: int) -> str:
    """The name of a task; arguments as the attributes of ``TaskName``."""
    return f"round-{number:02d}.{shape}.part-{part}{f'.seed-{seed}' if seed else ''}"


def plan_name(number: int) -> str:
    """The name of a round's plan."""
    return f"round-{number:02d}.plan"


def timings_name(number: int) -> str:
    """The name of a round's timings."""
    return f"round-{number:02d}.timings"


def read_task_name(name: str) -> TaskName | None:
    """What the name of a task says; None of a name that is no task's."""
    found = _TASK.fullmatch(name)
    return None if found is None else TaskName(name, int(found[1]), found[2], int(found[3]), int(found[4] or 0))


def planned_round(name: str) -> int | None:
    """The number of the round that a name is the plan of; None of other names."""
    found = _PLAN.fullmatch(name)
    return None if found is None else int(found[1])


def round_of(name: str) -> int | None:
    """The number of the round that a name is of, whatever else it names; None of names that are of no round."""
    found = _ROUND.match(name)
    return None if found is None else int(found[1])
