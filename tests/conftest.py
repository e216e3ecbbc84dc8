"""Fixtures that several test modules share."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings

from tinyvit_kd import cli
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.job_array import ARRAY_VARIABLES
from tinyvit_kd.runtime.launch import LOCAL_TASKS, TASKS
from tinyvit_kd.runtime.signals import STOP_SIGNALS

if TYPE_CHECKING:
    from benchmarks.tiny_world import World
    from tests.storage.s3 import S3Server

# Tiny networks gain nothing from more threads, and threads that spin for each other stall on a busy machine.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# What a batch system, or torchrun, says of its own job is nothing that a test is part of.
for _name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", *TASKS, *LOCAL_TASKS, *ARRAY_VARIABLES):
    os.environ.pop(_name, None)

# What imports make stays; to collect among it, again and again, takes half of the seconds before the first test.
gc.disable()

# How long an example takes, or is being drawn, says nothing of a property: on a busy machine it is how long it waits.
# And a run that gates a change tries the same examples each time; --hypothesis-profile exploring draws others.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("unhurried", settings.get_profile("exploring"), derandomize=True)
settings.load_profile("unhurried")

NEEDS_GPU = pytest.mark.gpu
REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker(NEEDS_GPU.name) is not None and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


def pytest_collection_finish() -> None:
    """All is imported: from here on only what tests make is looked through."""
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """What is frozen is not torn down, which libraries would call a leak."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def forks_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: it forks until it uses an object store, and other tests may fork again."""
    monkeypatch.setattr("tinyvit_kd.runtime.shared_memory._must_not_fork", None)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """A command ends with its signals ignored; this process goes on."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images for tests; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TINYVIT_KD_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test images are not at {folder} (set TINYVIT_KD_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server of the S3 protocol, with one bucket for all tests of this process."""
    from tests.storage.s3 import serving

    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, found through the environment; nothing goes wrong at first."""
    s3_server.faults.calm()
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


CommandLine = Callable[..., Ended]


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """A function that runs ``tinyvit-kd ARGUMENTS`` in this process."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tinyvit-kd", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert isinstance(caught.value.code, int)
        return Ended(caught.value.code, *capsys.readouterr())

    return run


# These fixtures import what they need themselves: importing networks takes seconds, and most tests need none.


@pytest.fixture(scope="session")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a teacher and a finished store (``benchmarks.tiny_world``). Tests must not change them."""
    from benchmarks.tiny_world import World, draw_shards, make_teacher
    from tinyvit_kd.stages.dump_logits import dump_logits

    folder = tmp_path_factory.mktemp("world")
    draw_shards(folder)
    make_teacher(folder)
    dump_logits(World(folder).dump(), solo_job())
    return folder


@pytest.fixture
def world(dumped: Path, tmp_path: Path) -> World:
    """A copy of the dumped world."""
    from benchmarks.tiny_world import World

    shutil.copytree(dumped, tmp_path / "world")
    return World(tmp_path / "world")
