"""``--part auto``: the part of an array's element, from what Slurm, Kubernetes and AWS Batch tell it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.job_array import part_of

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "16", "GROUP_WORLD_SIZE": "2"}


def slurm(number: int, first: int, last: int, count: int | None = None, step: int = 1) -> dict[str, str]:
    """What Slurm 22.05 tells an element of ``--array=FIRST-LAST:STEP``; ``count`` for one that leaves out others."""
    count = len(range(first, last + 1, step)) if count is None else count
    told = {"ID": number, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in told.items()}


def aws(index: Any, size: Any) -> dict[str, str]:
    return {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(size)}


def srun(task: int, tasks: int) -> dict[str, str]:
    return {"SLURM_PROCID": str(task), "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_NTASKS": str(tasks)}


POD = {"JOB_COMPLETION_INDEX": "2"}
ELEMENTS: dict[str, tuple[str, dict[str, str], tuple[int, int]]] = {
    "by hand": ("2/8", {}, (2, 8)),
    "by hand in an array": ("2/8", slurm(5, 1, 16), (2, 8)),
    "Slurm from 1": ("auto", slurm(3, 1, 16), (3, 16)),
    "Slurm from 0": ("auto", slurm(0, 0, 15), (1, 16)),
    "the last of Slurm from 0": ("auto", slurm(15, 0, 15), (16, 16)),
    "an array of one": ("auto", slurm(1, 1, 1), (1, 1)),
    "Slurm, and told as many": ("auto/16", slurm(3, 1, 16), (3, 16)),
    "elements 3 and 7 again": ("auto/16", slurm(7, 3, 7, count=2), (7, 16)),
    "element 7 alone again": ("auto/16", slurm(7, 7, 7), (7, 16)),
    "elements 1 and 2 again": ("auto/16", slurm(2, 1, 2), (2, 16)),
    "elements 0 and 5 of an array from 0 again": ("auto/16", slurm(5, 0, 5, count=2), (6, 16)),
    "every second one": ("auto/16", slurm(5, 1, 15, step=2), (5, 16)),
    "torchrun over the machines of an element of Slurm": ("auto", {**slurm(3, 1, 4), **TORCHRUN}, (3, 4)),
    "one task of srun in an element": ("auto", {**slurm(3, 1, 4), **srun(0, 1)}, (3, 4)),
    "torchrun in tasks of srun in an element": ("auto", {**slurm(3, 1, 4), **srun(1, 2), **TORCHRUN}, (3, 4)),
    "tasks of srun": ("auto", srun(1, 4), (2, 4)),
    "Kubernetes": ("auto/8", POD, (3, 8)),
    "Kubernetes, a torchrun in each pod": ("auto/8", POD | {"RANK": "3", "GROUP_WORLD_SIZE": "1"}, (3, 8)),
    "AWS Batch": ("auto", aws(0, 5), (1, 5)),
    "AWS Batch, and told as many": ("auto/5", aws(4, 5), (5, 5)),
}
REFUSED: dict[str, tuple[str, dict[str, str], str]] = {
    "nothing there": ("auto", {}, "no array of jobs in the environment"),
    "nothing there, and told": ("auto/4", {}, "no array of jobs in the environment"),
    "a batch script of Slurm": ("auto", {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "no array of jobs"),
    "torchrun in tasks of srun": ("auto", {**srun(1, 2), **TORCHRUN}, "no array of jobs"),
    "elements 3 and 7 again": ("auto", slurm(7, 3, 7, count=2), "does not say how many parts there are"),
    "element 7 alone again": ("auto", slurm(7, 7, 7), "does not say how many parts there are"),
    "every fifth one": ("auto", slurm(5, 0, 15, step=5), "does not say how many parts there are"),
    "a hole": ("auto", slurm(2, 1, 16, count=15), "does not say how many parts there are"),
    "more elements than told": ("auto/8", slurm(9, 1, 16), "element 9 of an array, and --part says that there are 8"),
    "the last of more than told": ("auto/15", slurm(15, 0, 15), "element 16 of an array"),
    "Slurm that tells half": ("auto", {"SLURM_ARRAY_TASK_ID": "3"}, "tells its element no SLURM_ARRAY_TASK_MIN"),
    "Slurm that tells nonsense": ("auto", {**slurm(3, 1, 4), "SLURM_ARRAY_TASK_MAX": "x"}, "MAX is no number"),
    "Slurm and AWS": ("auto", {**slurm(3, 1, 4), **aws(2, 4)}, "several arrays"),
    "Kubernetes in Slurm": ("auto/4", {**slurm(3, 1, 4), **POD}, "several arrays"),
    "tasks without torchrun in an element": ("auto", {**slurm(3, 1, 4), **srun(1, 2)}, "several arrays"),
    "Kubernetes does not tell how many": ("auto", POD, "not how many there are"),
    "more pods than told": ("auto/2", POD, "element 3 of an array, and --part says that there are 2 parts"),
    "one torchrun over several pods": ("auto/8", POD | TORCHRUN, "the pods of this torchrun are one job"),
    "AWS and the option disagree": ("auto/4", aws(1, 5), "disagree on how many"),
    "AWS tells half": ("auto", {"AWS_BATCH_JOB_ARRAY_INDEX": "3"}, "tells its element no AWS_BATCH_JOB_ARRAY_SIZE"),
    "AWS beyond itself": ("auto", aws(5, 5), "element 6 of an array"),
    **{f"malformed: {text}": (text, slurm(1, 1, 4), "--part takes I/N") for text in ("auto/", "auto/0", "auto/x", "3")},
    **{f"malformed: {text}": (text, {}, "--part takes I/N") for text in ("0/4", "5/4", "1/", "/4", "²/4", "-1/4", "")},
}


@pytest.mark.parametrize(("text", "environment", "part"), ELEMENTS.values(), ids=ELEMENTS)
def test_an_element_knows_its_part(text: str, environment: dict[str, str], part: tuple[int, int]) -> None:
    assert part_of(text, environment) == part


@pytest.mark.parametrize(("text", "environment", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_tell_of_one_whole_array_is_refused(text: str, environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        part_of(text, environment)
    assert "--part" in str(caught.value)


@given(st.integers(1, 300), st.sampled_from([0, 1]))
def test_the_elements_of_a_whole_array_have_each_part_once(count: int, first: int) -> None:
    last = first + count - 1
    parts = [part_of("auto", slurm(number, first, last)) for number in range(first, last + 1)]
    assert parts == [(number, count) for number in range(1, count + 1)]
    assert parts == [part_of("auto", aws(index, count)) for index in range(count)]
    assert parts == [part_of(f"auto/{count}", {"JOB_COMPLETION_INDEX": str(index)}) for index in range(count)]


@given(st.data(), st.integers(2, 60))
def test_elements_that_are_submitted_again_keep_their_parts_or_are_refused(data: st.DataObject, count: int) -> None:
    again = sorted(data.draw(st.sets(st.integers(1, count), min_size=1, max_size=count - 1)))
    for number in again:
        environment = slurm(number, again[0], again[-1], count=len(again))
        assert part_of(f"auto/{count}", environment) == (number, count)
        if again != list(range(1, len(again) + 1)):  # which the files beside the store tell apart
            with pytest.raises(ConfigError):
                part_of("auto", environment)
