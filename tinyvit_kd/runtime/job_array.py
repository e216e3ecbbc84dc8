"""Which element of a job array this process is, and so which part of the work is its: from the environment.

Slurm, Kubernetes and AWS Batch start equal jobs and tell each its number. Element numbers of Slurm and Kubernetes stay
what they are when an element is requeued or tried again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tinyvit_kd.errors import ConfigError

Part = tuple[int, int]  # the i-th of n
AUTO = "auto"
SLURM = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT"))
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")
KUBERNETES = "JOB_COMPLETION_INDEX"
AWS_BATCH = ("AWS_BATCH_JOB_ARRAY_INDEX", "AWS_BATCH_JOB_ARRAY_SIZE")
ARRAY_VARIABLES = (*SLURM, *SRUN, KUBERNETES, *AWS_BATCH)
_BY_HAND = "give the part by hand: --part I/N"


@dataclass(frozen=True)
class Element:
    """One of several equal jobs.

    Attributes:
        number: from 1 on.
        count: of all of them; None: not told.
        variables: what told it, for messages.
        per_machine: whether the machines of one torchrun have a number each.
    """

    number: int
    count: int | None
    variables: tuple[str, ...]
    per_machine: bool = False


def part_of(text: str, environment: Mapping[str, str]) -> Part:
    """The part that ``--part`` means.

    Args:
        text: ``I/N``; ``auto``: both from the environment; ``auto/N``: the number from the environment, of N parts.
        environment: ``os.environ``.

    Raises:
        ConfigError: it means none, or the environment does not tell of exactly one array, whole and in step with N.
    """
    first, _, count = text.partition("/")
    told = int(count) if count.isdecimal() else None
    if first == AUTO and (text == AUTO or told):
        return _part_of_element(environment, told)
    if not (first.isdecimal() and told is not None and 1 <= int(first) <= told):
        raise ConfigError(
            "--part takes I/N with 1 <= I <= N, or auto, or auto/N in an array of jobs",
            found=text,
            expected="for example 2/8, auto or auto/8",
        )
    return int(first), told


def _part_of_element(environment: Mapping[str, str], told: int | None) -> Part:
    found = list(_elements(environment, told))
    if len(found) != 1:
        raise ConfigError(
            "--part auto finds no array of jobs in the environment"
            if not found
            else "--part auto finds several arrays in the environment, and cannot tell which one counts",
            found=_shown(environment, [name for each in found for name in each.variables]) if found else "",
            expected=f"one of {SLURM[0]} (sbatch --array), {KUBERNETES} (an Indexed Job) and {AWS_BATCH[0]}, or tasks "
            "of one srun",
            fix=_BY_HAND,
        )
    (element,) = found
    _refuse_machines_of_one_job(element, environment)
    count = told if told is not None else element.count
    if count is None:
        raise ConfigError(
            "Kubernetes tells the number of a job's element, but not how many there are",
            found=_shown(environment, element.variables),
            fix="say how many: --part auto/N, where N is the Job's spec.completions",
        )
    if not 1 <= element.number <= count:
        raise ConfigError(
            f"this is element {element.number} of an array, and --part says that there are {count} parts",
            found=_shown(environment, element.variables),
            expected=f"elements 1 to {count}, or 0 to {count - 1} where the array starts at 0",
            fix="say how many parts the whole array has: --part auto/N",
        )
    return element.number, count


def _elements(environment: Mapping[str, str], told: int | None) -> Iterator[Element]:
    if SLURM[0] in environment:
        yield _slurm_element(environment, told)
    if KUBERNETES in environment:
        yield Element(_number(environment, KUBERNETES) + 1, None, (KUBERNETES,), per_machine=True)
    if AWS_BATCH[0] in environment:
        yield _aws_element(environment, told)
    # A batch script itself has SLURM_PROCID=0 and is no task; torchrun makes one job of several tasks.
    if "RANK" not in environment and environment.get(SRUN[1], "1") != "1":
        yield Element(_number(environment, SRUN[0]) + 1, _number(environment, SRUN[1]), SRUN)


def _slurm_element(environment: Mapping[str, str], told: int | None) -> Element:
    number, first, last, step, count = (_number(environment, name) for name in SLURM)
    is_whole = first in (0, 1) and step == 1 and last - first + 1 == count
    if not is_whole and told is None:
        raise ConfigError(
            "this array of Slurm does not say how many parts there are: it leaves out numbers, or starts beyond 1. "
            "Some elements of a larger array, submitted again, would each take another part than before",
            where=f"SLURM_ARRAY_TASK_ID={number}",
            found=_shown(environment, SLURM[1:]),
            expected="sbatch --array=1-N or --array=0-(N-1), without a step",
            fix="say how many parts the whole array has: --part auto/N, whose elements are numbered from 1 to N; for "
            "an array that was numbered from 0, add 1 to each number",
        )
    # An array with a 0 counts from 0; any other from 1, whichever of its elements are there.
    return Element(number + 1 if first == 0 else number, count if is_whole else None, SLURM)


def _aws_element(environment: Mapping[str, str], told: int | None) -> Element:
    number, count = (_number(environment, name) for name in AWS_BATCH)
    if told is not None and told != count:
        raise ConfigError(
            "AWS Batch and --part disagree on how many parts there are",
            found=_shown(environment, AWS_BATCH),
            expected=f"{AWS_BATCH[1]}={told}, as --part auto/{told} says",
            fix="leave the number to AWS Batch: --part auto",
        )
    return Element(number + 1, count, AWS_BATCH)


def _refuse_machines_of_one_job(element: Element, environment: Mapping[str, str]) -> None:
    """Refuse a torchrun over several pods: its processes make one part together, and each pod has another number."""
    if not element.per_machine or environment.get("GROUP_WORLD_SIZE", "1") == "1":
        return
    raise ConfigError(
        "the pods of this torchrun are one job, and each has another number",
        found=_shown(environment, (*element.variables, "GROUP_WORLD_SIZE")),
        expected="an element with a torchrun of its own: --standalone",
        fix=f"leave --part out, so that all pods make the store together; or {_BY_HAND}",
    )


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if text is not None and text.isdecimal():
        return int(text)
    raise ConfigError(
        f"an array of jobs tells its element no {name}" if text is None else f"{name} is no number",
        where=name,
        found=text or "",
        expected="a whole number from 0 on",
        fix=_BY_HAND,
    )


def _shown(environment: Mapping[str, str], names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{name}={environment[name]}" for name in names if name in environment)
