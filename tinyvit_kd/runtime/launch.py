"""Which process of which job this one is, from the environment that a launcher leaves: torchrun, or nobody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.errors import ConfigError

# How many tasks there are, as launchers tell each. By themselves such tasks know nothing of each other.
TASKS = {
    "SLURM_STEP_NUM_TASKS": "srun",  # of this step; SLURM_NTASKS may be that of the whole allocation
    "SLURM_NTASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
}
# A task's number among those of its launcher on this machine. Under mpirun in a batch script, Slurm's is that of the
# script, and so comes last.
LOCAL_TASKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_ONE = {"srun": "srun --ntasks 1", "mpirun": "mpirun -n 1", "mpiexec": "mpiexec -n 1"}
_MEETING_POINT = ("MASTER_ADDR", "MASTER_PORT")
_FIX = "start the command with torchrun, which sets all of these; for a single process, unset RANK and WORLD_SIZE"


@dataclass(frozen=True)
class Place:
    """This process's place in its job.

    Attributes:
        local_rank: its number among the job's processes on this machine.
        local_world_size: how many of them there are on this machine, as torchrun says; otherwise those up to this one.
        may_change: whether torchrun starts the job again when a process dies or a machine joins, with as many
            processes as there are then.
        task: its number among the tasks of srun or mpirun on this machine, which share the GPUs that they see; 0 where
            torchrun has given it a local rank.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    may_change: bool = False
    task: int = 0


def place_in_job(environment: Mapping[str, str], independent: bool = False) -> Place:
    """Read the place of this process from its environment.

    Args:
        environment: ``os.environ``.
        independent: this process has work of its own, whatever other tasks of the same launcher do.

    Raises:
        ConfigError: the variables contradict each other, or this is one of several tasks that do not know of each
            other, and would all do the same.
    """
    if "RANK" not in environment and environment.get("WORLD_SIZE", "1") == "1":
        if not independent:
            _refuse_copies(environment)
        return Place(task=_task(environment))
    world_size = _number(environment, "WORLD_SIZE")
    rank = _number(environment, "RANK")
    local_rank = _number(environment, "LOCAL_RANK") if "LOCAL_RANK" in environment else 0
    if not 0 <= rank < world_size:
        raise ConfigError(
            "a process has a number that its job does not have",
            where="RANK, WORLD_SIZE",
            found=f"RANK={rank}, WORLD_SIZE={world_size}",
            expected="RANK from 0 to WORLD_SIZE - 1",
            fix=_FIX,
        )
    absent = [name for name in _MEETING_POINT if not environment.get(name)]
    if world_size > 1 and absent:
        raise ConfigError(
            "the environment says that this is one of several processes, but not where they meet",
            where=", ".join(absent),
            found=f"RANK={rank}, WORLD_SIZE={world_size}, no {' and no '.join(absent)}",
            fix=_FIX,
        )
    if world_size > 1:
        _number(environment, "MASTER_PORT")
    local = environment.get("LOCAL_WORLD_SIZE", "")
    restarts = environment.get("TORCHELASTIC_MAX_RESTARTS", "0")
    return Place(
        rank,
        world_size,
        local_rank,
        max(int(local) if local.isdecimal() else 1, local_rank + 1),
        restarts.isdecimal() and int(restarts) > 0,
        0 if "LOCAL_RANK" in environment else _task(environment),
    )


def working_processes(place: Place, schedule: ScheduleConfig | None) -> int:
    """How many of a job's processes work, from rank 0 on; the others stand by.

    A training's lanes and micro-batches have to be shared out evenly. In a job that torchrun may form anew, with a
    machine less or more, it goes on with the largest number of processes that can do so. Else all work, or are refused.

    Args:
        schedule: of a training; None: work of another kind.
    """
    if schedule is None or not place.may_change:
        return place.world_size
    return next((count for count in range(place.world_size, 0, -1) if schedule.fits(count)), place.world_size)


def _task(environment: Mapping[str, str]) -> int:
    told = (environment.get(name, "") for name in LOCAL_TASKS)
    return next((int(number) for number in told if number.isdecimal()), 0)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name)
    if text is not None and text.isdecimal():
        return int(text)
    others = ", ".join(f"{each}={environment[each]}" for each in ("RANK", "WORLD_SIZE") if each in environment)
    raise ConfigError(
        f"the environment says that this is one of several processes, but {name} is "
        + ("not set" if text is None else "empty" if not text else "no number"),
        where=name,
        found=others if text is None or name in ("RANK", "WORLD_SIZE") else f"{name}={text}",
        expected="a whole number from 0 on",
        fix=_FIX,
    )


def _refuse_copies(environment: Mapping[str, str]) -> None:
    for name, launcher in TASKS.items():
        count = environment.get(name, "")
        if not count.isdecimal():
            continue
        if int(count) > 1:
            raise ConfigError(
                f"this is one of {count} tasks of {launcher}, which would all do the same work in the same folder",
                where=name,
                found=f"{name}={count}, no RANK",
                expected="one task per machine, and torchrun in it, which starts its processes",
                fix=f"put torchrun between them, as pipelines/slurm does: {launcher} … tinyvit-kd torchrun --nnodes N "
                f"--nproc_per_node GPUS … -m tinyvit_kd …; for a single process start one task: {_ONE[launcher]} …; "
                "dump-logits and contract may also take a part per task: --part I/N, or of srun's tasks --part auto",
            )
        return  # SLURM_STEP_NUM_TASKS=1 is a step of one task in an allocation of several
