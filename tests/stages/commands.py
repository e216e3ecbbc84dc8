"""Run stages as commands in processes of their own, also on a slow or a hanging disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.processes import wait_until
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import DumpConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.data.shards import ShardSet

Stage = DumpConfig | PretrainConfig | FinetuneConfig | EvaluateConfig
COMMAND_LINE = ("-m", "tinyvit_kd")  # what Python runs
# Images are read by os.pread, one call per image.
SLOW_DISK = """
import os, time
from tinyvit_kd import cli
pread = os.pread
def slowly(*arguments):
    time.sleep(0.01)
    return pread(*arguments)
os.pread = slowly
cli.main()
"""
HANGING_DISK = """
import os, sys, time
from tinyvit_kd import cli
pread, path, place = os.pread, sys.argv.pop(1), int(sys.argv.pop(1))
def hang(descriptor, size, offset):
    if (os.readlink(f"/proc/self/fd/{descriptor}"), offset) == (path, place):
        time.sleep(600)
    return pread(descriptor, size, offset)
os.pread = hang
cli.main()
"""


def on_a_slow_disk(folder: Path) -> tuple[str, ...]:
    """The command line on a disk that takes 10 ms per image.

    Runs then last long enough to be stopped in the middle on any machine.
    """
    (folder / "slow_disk.py").write_text(SLOW_DISK)
    return (str(folder / "slow_disk.py"),)


def on_a_hanging_disk(shards: Path, shard: int, index: int) -> tuple[str, ...]:
    """The command line on a disk where the read of one sample does not return, as if its server had gone away."""
    opened = ShardSet.load(shards, "train")
    return "-c", HANGING_DISK, str(Path(opened.locations[shard]).resolve()), str(opened.index(shard).offsets[index])


def torchrun(processes: int, *options: str) -> tuple[str, ...]:
    """Arguments of Python that start this many processes of the program that follows."""
    return "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), *options


def command(folder: Path, config: Stage, *program: str) -> list[str]:
    """The command of a stage; writes its recipe to the folder."""
    recipe = folder / f"{config.stage}.yaml"
    recipe.write_text(dump_yaml(config))
    return [sys.executable, *(program or COMMAND_LINE), config.stage, str(recipe)]


def start(folder: Path, config: Stage, *program: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    """Start a stage."""
    return subprocess.Popen(command(folder, config, *program), stdout=subprocess.DEVNULL, stderr=stderr, text=True)


def run(folder: Path, config: Stage, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a stage to its end. ``limit`` runs in the new process and may restrict it."""
    return subprocess.run(command(folder, config), capture_output=True, text=True, timeout=120, preexec_fn=limit)


def wait_for_file(process: subprocess.Popen[Any], folder: Path, pattern: str) -> None:
    """Wait until a command has written a file that matches the pattern."""

    def written() -> bool:
        assert process.poll() is None, "the command ended too early"
        return any(folder.glob(pattern))

    wait_until(written, f"there is no {pattern}", seconds=120)
