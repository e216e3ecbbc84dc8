"""What a command ends with: a word on stderr and a code that a scheduler can act on."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from tests.conftest import CommandLine
from tinyvit_kd import cli
from tinyvit_kd.commands.stages import short
from tinyvit_kd.errors import BusyError, ConfigError, DiskSpaceError, WorkerError
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE, Preempted

MASKED = RuntimeError("unexpected pos 1 vs 2")
MASKED.__context__ = OSError("write")
MASKED.__context__.__context__ = Preempted("stopped by SIGTERM; go on")

Failing = Callable[[BaseException], None]
ENDS: dict[str, tuple[BaseException, int, str]] = {
    "stop": (Preempted("stopped"), REQUEUE_EXIT_CODE, "stopped"),
    "stop that something made another error of": (MASKED, REQUEUE_EXIT_CODE, "stopped by SIGTERM; go on"),
    "killed process": (WorkerError("a process died"), REQUEUE_EXIT_CODE, "a process died."),
    "busy folder": (BusyError("another process writes there"), REQUEUE_EXIT_CODE, "another process writes there."),
    "mistake": (ConfigError("wrong", where="topk"), 2, "wrong. Where: topk."),
    "a stranger's name": (ConfigError("wrong", where="\x1b[2J\ud800.tar"), 2, r"wrong. Where: \x1b[2J\ud800.tar."),
    "full disk": (DiskSpaceError("the disk is full"), 2, "the disk is full."),
    "system": (OSError(errno.ENOSPC, "No space left on device"), 2, "the disk is full. Found: No space left"),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded", "runs"), 2, "the disk is full. Where: runs."),
    "handles": (OSError(errno.EMFILE, "Too many open files"), 2, "run out of a resource. Found: Too many open files."),
    "processes": (OSError(errno.EAGAIN, "Resource temporarily unavailable"), 2, "To do: raise the limit of processes"),
    "threads": (RuntimeError("can't start new thread"), 2, "refuses to start another thread or process."),
    "batch norm of one": (
        ValueError("Expected more than 1 value per channel when training, got input size torch.Size([1, 16, 1, 1])"),
        2,
        "a batch norm cannot learn from a single value per channel. Where: schedule.global_batch_size",
    ),
    "memory": (MemoryError(), 2, "there is not enough memory. Found: MemoryError. To do: free memory"),
    "memory of torch": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9"),
        2,
        "there is not enough memory.",
    ),
    "file": (
        PermissionError(errno.EACCES, "Permission denied", "a.tar"),
        2,
        "a file or folder cannot be used. Where: a.tar",
    ),
}


def test_the_figures_of_the_last_line_are_short_whatever_their_size() -> None:
    numbers = [4.6875e-7, 2 / 3 * 1e-8, 0.5, 2 / 3, 100 / 3, 1_281_167_000, 14_197_122.0, 0.0, -1e-9]
    assert [short(number) for number in numbers] == [
        *(4.6875e-7, 6.66667e-9, 0.5, 0.666667, 33.333333, 1_281_167_000, 14_197_122.0, 0.0, -1e-9),
    ]
    assert all(isinstance(short(number), int) for number in (0, 288))


@pytest.fixture
def failing() -> Iterator[Failing]:
    """Makes ``tinyvit-kd fail`` a command that ends with an error."""

    def make(error: BaseException) -> None:
        def fail() -> None:
            raise error

        cli.cli.add_command(click.Command("fail", callback=fail))

    yield make
    del cli.cli.commands["fail"]


@pytest.mark.parametrize(("error", "code", "words"), ENDS.values(), ids=ENDS.keys())
def test_an_end_has_its_code_and_its_word(
    error: BaseException, code: int, words: str, failing: Failing, command_line: CommandLine
) -> None:
    failing(error)
    ended = command_line("fail")
    assert ended.code == code
    assert words in ended.err


def test_a_working_directory_that_is_gone_is_told_of(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    ended = command_line("recipe", "pretrain")
    assert ended.code == 2
    assert "the working directory is gone" in ended.err


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), RuntimeError("a bug"), AssertionError("a bug"), OSError("a bug")]
)
def test_a_bug_of_ours_keeps_its_traceback(error: Exception, failing: Failing, command_line: CommandLine) -> None:
    failing(error)
    with pytest.raises(type(error), match="a bug"):
        command_line("fail")


def test_a_mistake_in_a_recipe_is_told_of_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("stage: pretrain\nstore: {}\n")
    code = "import sys; from tinyvit_kd.cli import main\n"
    code += "try: main()\nfinally: assert 'tinyvit_kd.config.load' in sys.modules and 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "pretrain", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
