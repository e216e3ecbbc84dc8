"""Hours follow from work and rates; the slowest part limits, and the numbers that would balance it do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyvit_kd.planning.hours import Hours, Machine, hours_of
from tinyvit_kd.planning.stage_plan import StagePlan, Work

DUMP = StagePlan("dump.yaml", "dump-logits", 224, processes=8, workers=14, work=Work(views=9e6, teacher=9e6, write=9e6))
TRAIN = StagePlan("train.yaml", "pretrain", 224, processes=8, workers=14, lanes=64, work=Work(views=9e6, student=9e6))
Rates = dict[str, float]


def hours(plan: StagePlan, rates: Rates, machine: Machine | None = None) -> Hours:
    found = hours_of(plan, rates, machine or Machine())
    assert found is not None
    return found


def total(plan: StagePlan, rates: Rates, machine: Machine | None = None) -> float:
    seconds = hours(plan, rates, machine).total
    assert seconds is not None
    return seconds


def test_the_paper_takes_eighteen_hours_at_twenty_thousand_views_per_second() -> None:
    plan = replace(DUMP, work=Work(views=14.2e6 * 90, teacher=14.2e6 * 90))
    assert total(plan, {"teacher": 2500, "views": 1000}) / 3600 == pytest.approx(17.75)


def test_a_stage_lasts_as_long_as_its_slowest_part() -> None:
    found = hours(DUMP, {"teacher": 1000, "views": 10, "write": 1e6})
    assert found.total == max(found.seconds.values()) == found.seconds["views"]
    assert found.limit == "views"


def test_parts_without_a_rate_are_named_and_the_total_holds_without_them() -> None:
    found = hours(DUMP, {"teacher": 1000})
    assert found.unknown == ("views", "write")
    assert found.total == 9e6 / 8000
    assert hours(DUMP, {}).total is None
    assert hours_of(replace(DUMP, work=None), {"teacher": 1000}, Machine()) is None


def test_nothing_to_do_takes_no_time() -> None:
    assert hours(replace(DUMP, work=Work()), {}).total == 0


def test_a_disk_counts_where_its_rate_is_given() -> None:
    plan = replace(TRAIN, work=Work(views=1, student=1, read=5e9))
    assert hours(plan, {"student": 1, "views": 1}).unknown == ()
    assert hours(plan, {"student": 1, "views": 1, "read": 100}).limit == "read"
    assert total(plan, {"student": 1, "views": 1, "read": 100}) == 50


RATE = st.floats(1, 1e5)


@settings(max_examples=30)
@given(RATE, RATE)
def test_the_workers_that_balance_a_stage_do(views: float, teacher: float) -> None:
    rates = {"views": views, "teacher": teacher}
    found = hours(DUMP, rates)
    if found.limit == "views" and "workers" in found.balance:
        balanced = replace(DUMP, workers=found.balance["workers"])
        assert hours(balanced, rates).seconds["views"] <= found.seconds["teacher"] * (1 + 1e-9)
        one_fewer = replace(DUMP, workers=found.balance["workers"] - 1)
        assert hours(one_fewer, rates).seconds["views"] > found.seconds["teacher"] * (1 - 1e-9)


@settings(max_examples=30)
@given(RATE, RATE)
def test_the_workers_that_are_enough_for_the_gpus_are(views: float, student: float) -> None:
    rates = {"views": views, "student": student}
    found = hours(TRAIN, rates)
    if found.limit == "student" and "workers" in found.balance:
        fewer = replace(TRAIN, workers=found.balance["workers"])
        assert hours(fewer, rates).seconds["views"] <= found.seconds["student"] * (1 + 1e-9)


def test_gpus_that_loading_keeps_up_with_divide_the_lanes_of_a_training() -> None:
    rates = {"views": 1000.0, "student": 4500.0, "teacher": 4500.0}  # 112,000 views per second against 36,000
    assert hours(TRAIN, rates).balance["gpus"] == 16
    assert "up to 16 GPUs in place of 8" in hours(TRAIN, rates).relief
    assert hours(DUMP, rates).balance["gpus"] == 24


@settings(max_examples=30)
@given(RATE, RATE)
def test_loading_keeps_up_with_the_gpus_that_are_advised(views: float, teacher: float) -> None:
    rates = {"views": views, "teacher": teacher}
    found = hours(DUMP, rates)
    if found.limit == "teacher" and "gpus" in found.balance:
        # The cores stay what they are, whatever the number of processes.
        more = replace(DUMP, processes=found.balance["gpus"])
        assert hours(more, rates, Machine(cores=8 * 14)).seconds["teacher"] >= found.seconds["views"] * (1 - 1e-9)


def test_cores_limit_loading_processes_that_are_more() -> None:
    rates = {"views": 100.0, "teacher": 1e9}
    assert total(DUMP, rates, Machine(cores=56)) == 2 * total(DUMP, rates)


def test_without_workers_loading_and_computing_take_turns() -> None:
    alone = replace(TRAIN, processes=1, workers=0, work=Work(views=100, student=100))
    assert total(alone, {"views": 10, "student": 5}) == 30


def test_on_shared_cores_the_work_of_all_adds_up() -> None:
    plan = replace(TRAIN, processes=1, workers=2, work=Work(views=100, student=100))
    rates = {"views": 10.0, "student": 5.0}  # 10 seconds of one core, and 20 seconds of two
    assert total(plan, rates, Machine(cores=2, shared=2, threads=2)) == pytest.approx((5 * 2 + 20 * 2) / 2)
    assert total(plan, rates, Machine(cores=8, shared=8, threads=2)) == 20


def test_more_views_per_decode_are_only_advised_where_there_are_more() -> None:
    rates = {"views": 1.0, "student": 1e6}
    assert "schedule.views_per_sample" in hours(TRAIN, rates).relief
    assert "per_sample" not in hours(replace(TRAIN, mixes=True), rates).relief
