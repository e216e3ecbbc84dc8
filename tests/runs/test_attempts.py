"""How a run's attempts ended is kept, whatever ends them and whoever writes at the same time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.attempts import Attempts, attempting, read_attempts
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.progress_file import ProgressFile
from tinyvit_kd.runtime.signals import Preempted

ENDINGS = {
    "a signal": (Preempted("stopped at step 3"), "stopped", "stopped at step 3"),
    "Ctrl-C": (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    "a mistake": (ConfigError("it is wrong", found="2"), "failed", "it is wrong. Found: 2."),
    "a defect": (RuntimeError("broken\nin two lines"), "failed", "broken"),
}


@pytest.mark.parametrize(("error", "ended", "message"), ENDINGS.values(), ids=ENDINGS)
def test_attempts_and_progress_agree_on_how_a_run_ended(
    error: BaseException, ended: str, message: str, tmp_path: Path
) -> None:
    progress = Progress("pretrain")
    path = tmp_path / "attempts.json"
    with pytest.raises(type(error)), attempting(path, 1), ProgressFile(None, progress):
        raise error
    attempt = read_attempts(path)[-1]
    assert (attempt.ended, attempt.message) == (progress.state, progress.message)
    assert attempt.ended == ended
    assert attempt.message is not None
    assert attempt.message.split() == message.split()


def test_a_note_that_comes_after_the_end_does_not_take_it_back(tmp_path: Path) -> None:
    path = tmp_path / "attempts.json"
    attempts = Attempts(path, 1)
    attempts.note("finished")
    attempts.note()  # of the thread that notes every few seconds, and that the system has let wait
    assert [each.ended for each in read_attempts(path)] == ["finished"]
