"""The environment says which process of which job this is; what contradicts itself is refused in words."""

from __future__ import annotations

import pytest
import torch

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.runtime.launch import TASKS, Place, place_in_job, working_processes

MET = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", **MET}

PLACES = {
    "nobody": ({}, Place()),
    "one process of torchrun": ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", **MET}, Place()),
    "torchrun": (TORCHRUN, Place(3, 4, 1, 2)),
    "torchrun in tasks of srun": (TORCHRUN | {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, Place(3, 4, 1, 2)),
    "torchrun with more processes on this machine": (TORCHRUN | {"LOCAL_WORLD_SIZE": "4"}, Place(3, 4, 1, 4)),
    "a number of local processes that is none": (TORCHRUN | {"LOCAL_WORLD_SIZE": ""}, Place(3, 4, 1, 2)),
    "another launcher without local ranks": ({"RANK": "1", "WORLD_SIZE": "2", **MET}, Place(1, 2, 0)),
    "tasks of srun with a rank each": (
        {"RANK": "1", "WORLD_SIZE": "2", "SLURM_LOCALID": "1", **MET},
        Place(1, 2, task=1),
    ),
    "torchrun in the second task on a machine": (TORCHRUN | {"SLURM_LOCALID": "1"}, Place(3, 4, 1, 2)),
    "mpirun in a batch script": ({"SLURM_LOCALID": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "3"}, Place(task=3)),
    "a number of a task that is none": ({"SLURM_LOCALID": ""}, Place()),
    "a world of one without a rank": ({"WORLD_SIZE": "1"}, Place()),
    "one task of srun": ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, Place()),
    "a step of one task in an allocation of eight": ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1"}, Place()),
    "an allocation that does not say how many tasks": ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": ""}, Place()),
}
REFUSED = {
    "left over, without a meeting point": ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR, MASTER_PORT", "where they"),
    "an empty meeting point": ({**TORCHRUN, "MASTER_ADDR": ""}, "MASTER_ADDR", "where they meet"),
    "an empty port": ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT", "where they meet"),
    "a port that is none": ({**TORCHRUN, "MASTER_PORT": "http"}, "MASTER_PORT", "MASTER_PORT is no number"),
    "an empty rank": ({"RANK": "", "WORLD_SIZE": "2"}, "RANK", "RANK is empty"),
    "both empty": ({"RANK": "", "WORLD_SIZE": ""}, "WORLD_SIZE", "WORLD_SIZE is empty"),
    "a rank alone": ({"RANK": "1"}, "WORLD_SIZE", "WORLD_SIZE is not set"),
    "a size alone": ({"WORLD_SIZE": "4"}, "RANK", "RANK is not set"),
    "an empty size alone": ({"WORLD_SIZE": ""}, "WORLD_SIZE", "WORLD_SIZE is empty"),
    "a rank that is no number": ({**TORCHRUN, "RANK": "first"}, "RANK", "RANK is no number"),
    "a negative rank": ({**TORCHRUN, "RANK": "-1"}, "RANK", "RANK is no number"),
    "a rank beyond the job": ({**TORCHRUN, "RANK": "4"}, "RANK, WORLD_SIZE", "a number that its job does not have"),
    "an empty local rank": ({**TORCHRUN, "LOCAL_RANK": ""}, "LOCAL_RANK", "LOCAL_RANK is empty"),
}


@pytest.mark.parametrize(("environment", "place"), PLACES.values(), ids=PLACES)
def test_a_process_finds_its_place(environment: dict[str, str], place: Place) -> None:
    assert place_in_job(environment) == place


@pytest.mark.parametrize(("environment", "where", "said"), REFUSED.values(), ids=REFUSED)
def test_an_environment_that_contradicts_itself_is_refused(environment: dict[str, str], where: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        place_in_job(environment)
    assert caught.value.where == where
    assert "torchrun" in caught.value.fix
    assert "unset RANK and WORLD_SIZE" in caught.value.fix


GPUS = {
    "torchrun": ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"}, 4, 1),
    "a task that sees all GPUs of its machine": ({"SLURM_LOCALID": "2", "SLURM_NTASKS": "4"}, 4, 2),
    "a task that was given one GPU": ({"SLURM_LOCALID": "2", "SLURM_NTASKS": "4"}, 1, 0),
    "more tasks than GPUs": ({"SLURM_LOCALID": "3", "SLURM_NTASKS": "4"}, 2, 1),
    "a process of its own": ({}, 4, 0),
}


@pytest.mark.parametrize(("environment", "gpus", "number"), GPUS.values(), ids=GPUS)
def test_tasks_of_one_machine_are_spread_over_the_gpus_that_they_see(
    environment: dict[str, str], gpus: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with start_job(independent=True) as job:
        assert job.device == torch.device("cuda", number)
    assert current == ([job.device] if number else [])  # cuda:0 is that from the start


def test_processes_of_one_job_have_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": "2", "WORLD_SIZE": "3", "SLURM_LOCALID": "2", **MET}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="more processes on this machine than GPUs"), start_job():
        pass


@pytest.mark.parametrize("name", TASKS)
def test_tasks_that_would_all_do_the_same_are_refused_unless_they_have_parts(name: str) -> None:
    with pytest.raises(ConfigError, match=f"one of 4 tasks of {TASKS[name]}") as caught:
        place_in_job({name: "4"})
    assert "torchrun" in caught.value.fix
    assert place_in_job({name: "4"}, independent=True) == Place()


@pytest.mark.parametrize(
    ("environment", "part", "refused"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "1/1", "not where they meet"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "1/1", "one of 2 tasks of srun"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, "2/2", None),
    ],
    ids=["left over", "srun", "srun, a part per task"],
)
def test_a_command_says_in_a_paragraph_what_its_environment_lacks(
    environment: dict[str, str],
    part: str,
    refused: str | None,
    command_line: CommandLine,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    recipe = world.folder / "dump.yaml"
    recipe.write_text(dump_yaml(world.dump()))
    ended = command_line("dump-logits", recipe, "--part", part)
    assert ended.code == (2 if refused else 0), ended.err
    assert refused is None or refused in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("processes", "micro", "working"),
    [(24, None, 16), (32, None, 32), (7, None, 4), (24, 64, 16), (64, 64, 64), (64, 128, 32), (3, 4096, 1)],
)
def test_in_a_job_that_torchrun_forms_anew_the_most_processes_work_that_share_a_step_evenly(
    processes: int, micro: int | None, working: int
) -> None:
    schedule = ScheduleConfig(epochs=1, global_batch_size=4096, lanes=64, micro_batch_size=micro)
    place = Place(0, processes, may_change=True)
    assert working_processes(place, schedule) == working
    assert schedule.fits(working)
    assert working_processes(Place(0, processes), schedule) == processes  # or a later check refuses them
    assert working_processes(place, None) == processes


def test_a_job_may_change_if_torchrun_may_start_it_again() -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
    assert not place_in_job(torchrun).may_change
    assert not place_in_job(torchrun | {"TORCHELASTIC_MAX_RESTARTS": "0"}).may_change
    assert place_in_job(torchrun | {"TORCHELASTIC_MAX_RESTARTS": "3"}).may_change
