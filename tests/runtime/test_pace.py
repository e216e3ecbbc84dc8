"""The time left of a job: from its last minutes, with all that comes between its steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.runtime.pace import MEMORY, Pace


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(seconds=st.floats(1e-3, 1e3), total=st.integers(1, 10**6), part=st.floats(0, 1), starts=st.integers(1, 40))
def test_of_a_steady_job_the_time_left_is_exact_wherever_it_was_started(
    seconds: float, total: int, part: float, starts: int
) -> None:
    pace, done = Pace(), int(part * total)
    pace.expect(total)
    for _ in range(starts):
        pace.made(1, seconds)
    assert pace.rate == pytest.approx(1 / seconds)
    assert pace.seconds_left(done) == pytest.approx((total - done) * seconds)


def test_nothing_is_known_before_the_first_step_and_nothing_is_left_at_the_end() -> None:
    pace = Pace()
    assert (pace.rate, pace.seconds_left(0)) == (None, None)
    pace.expect(10)
    assert pace.seconds_left(3) is None
    assert pace.seconds_left(10) == 0
    pace.made(1, 2.0)
    assert pace.seconds_left(3) == 14


def test_the_first_step_which_starts_the_workers_counts_only_until_there_are_others() -> None:
    pace = Pace()
    pace.expect(100)
    pace.made(1, 60.0)
    assert pace.seconds_left(1) == pytest.approx(99 * 60)
    pace.made(1, 1.0)
    assert pace.seconds_left(2) == pytest.approx(98)


def test_what_was_slow_long_ago_is_forgotten() -> None:
    pace = Pace()
    for seconds in [10.0] * 500 + [1.0] * int(5 * MEMORY):
        pace.made(1, seconds)
    assert pace.rate == pytest.approx(1, rel=0.01)


def test_pauses_to_come_are_added_as_long_as_the_last_one_and_the_current_one_runs_down() -> None:
    clock = Clock()
    pace = Pace({"checkpoint": 5.0}, clock)  # as an earlier start of the job has timed it
    pace.expect(10, lambda done: {"evaluation": 2 if done < 5 else 1, "checkpoint": 1})
    pace.made(1, 1.0)
    assert pace.seconds_left(4) == 6 + 5, "no evaluation has been timed"
    with pace.pausing("evaluation"):
        clock.now += 30
    assert pace.seconds_left(5) == 5 + 30 + 5
    with pace.pausing("evaluation"):
        clock.now += 10
        assert pace.seconds_left(5) == 5 + 30 + 5 + 20
        clock.now += 90
        assert pace.seconds_left(5) == 5 + 30 + 5, "it takes longer than the last one"
    assert pace.pause_seconds == {"checkpoint": 5.0, "evaluation": 100.0}


def test_a_pause_that_is_broken_off_is_no_measure() -> None:
    pace = Pace({"evaluation": 5.0})
    with pytest.raises(ValueError, match="stopped"), pace.pausing("evaluation"):
        raise ValueError("stopped")
    assert pace.pause_seconds == {"evaluation": 5.0}
