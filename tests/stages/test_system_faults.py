"""What the outside world does to a run ends it with a clear word, and it goes on as if nothing had been."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from PIL import Image

from benchmarks.fault_injection.proc import children, command_line
from benchmarks.tiny_world import TRAINING, World, make_teacher
from tests.models.weights import assert_same_weights, weights
from tests.processes import nobody, readonly_copy, wait_until
from tests.stages.commands import on_a_hanging_disk, on_a_slow_disk, run, start, wait_for_file
from tests.views.conftest import NEEDS_REFERENCE
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ManifestMismatchError, ReplayError, StoreError, WorkerError
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import checkpoints

HANGS_AFTER = 4  # seconds, in which a busy machine must have come to do anything else that is watched


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def file_size(limit: int) -> Callable[[], None]:
    """As good as a disk that is full: no file may grow beyond so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.skipif(Version(torch.__version__) < Version("2.8"), reason="torch 2.6 writes a file when it is imported")
def test_a_dump_on_a_full_disk_says_so_and_leaves_no_short_block(world: World) -> None:
    config = world.dump(store={"path": str(world.folder / "full"), "topk": 20, "views": 2, "encoding": "exact"})
    done = run(world.folder, config, file_size(2000))
    assert done.returncode == 2
    assert str(world.folder / "full") in last_words(done)
    assert "run dump-logits again" in last_words(done)
    store = LogitStore.open(world.folder / "full")
    assert store.missing_blocks()
    assert not store.unfinished(range(3))
    dump_logits(config, solo_job())
    for shard in range(3):
        for view in range(2):
            store.read_block(shard, view)


def test_a_run_on_a_full_disk_says_so_and_goes_on_when_there_is_room(world: World) -> None:
    whole = world.pretrain(output=str(world.folder / "whole"))
    config = world.pretrain()
    done = run(world.folder, config, file_size(50_000))
    assert done.returncode == 2
    assert last_words(done).startswith("the disk is full. Where:")
    assert "checkpoints" in last_words(done)
    for each in (config, whole):
        pretrain(each, solo_job())
    assert_same_weights(Path(config.output), Path(whole.output))


def test_too_few_open_files_are_told_of_before_the_work(world: World) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    done = run(world.folder, world.pretrain(runtime={"workers": 8}), few)
    assert done.returncode == 2
    assert "too few files may be open" in last_words(done)
    assert "lower runtime.workers to 3" in last_words(done)
    assert run(world.folder, world.pretrain(runtime={"workers": 2}), few).returncode == 0


def test_a_low_limit_of_open_files_that_may_be_raised_is_raised(world: World) -> None:
    def low() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    assert run(world.folder, world.pretrain(runtime={"workers": 2}), low).returncode == 0


def test_a_worker_that_is_killed_ends_the_run_which_goes_on_bit_for_bit(world: World) -> None:
    schedule = TRAINING["schedule"] | {"epochs": 10}
    config = world.pretrain(runtime={"workers": 1}, schedule=schedule)
    process = start(world.folder, config, *on_a_slow_disk(world.folder), stderr=subprocess.PIPE)
    wait_for_file(process, Path(config.output), "checkpoints/step-*.pt")
    os.kill(loading_worker(process.pid), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == REQUEUE_EXIT_CODE, said
    assert "a data loading process ended unexpectedly" in said.splitlines()[-1]
    pretrain(config, solo_job())
    whole = world.pretrain(output=str(world.folder / "whole"), schedule=schedule)
    pretrain(whole, solo_job())
    assert_same_weights(Path(config.output), Path(whole.output))


def loading_worker(pid: int) -> int:
    # Others are multiprocessing's own helpers, whose command line is another.
    return next(child for child in children(pid) if command_line(child) == command_line(pid))


def start_hanging(world: World, config: PretrainConfig) -> subprocess.Popen[str]:
    return start(world.folder, config, *on_a_hanging_disk(world.shards, 1, 7), stderr=subprocess.PIPE)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_storage_that_hangs_is_named_and_the_run_goes_on_bit_for_bit(world: World, workers: int) -> None:
    config = world.pretrain(runtime={"workers": workers, "data_timeout": HANGS_AFTER})
    process = start_hanging(world, config)
    _, said = process.communicate(timeout=60)
    assert process.returncode == REQUEUE_EXIT_CODE, said
    assert f"no data has come for {HANGS_AFTER} seconds" in said.splitlines()[-1]
    assert f"reading sample 7 of {world.folder / 'shards' / 'train-000001.tar'}" in said.splitlines()[-1]
    pretrain(config, solo_job())
    whole = world.pretrain(output=str(world.folder / "whole"))
    pretrain(whole, solo_job())
    assert_same_weights(Path(config.output), Path(whole.output))


def test_a_run_that_waits_for_a_storage_that_hangs_writes_a_checkpoint_when_it_is_stopped(world: World) -> None:
    train = TRAINING["train"] | {"checkpoint_every": 1000}
    process = start_hanging(world, world.pretrain(runtime={"workers": 1, "data_timeout": 600}, train=train))
    metrics = world.folder / "distilled" / "metrics.jsonl"
    wait_until(lambda: (metrics.exists() and metrics.read_text()) or process.poll() is not None, "nothing was logged")
    time.sleep(1)  # it is in the midst of the wait
    process.terminate()
    process.communicate(timeout=60)  # much less than the read takes
    assert process.returncode == REQUEUE_EXIT_CODE
    assert checkpoints(world.folder / "distilled" / "checkpoints")


def test_a_checkpoint_that_hangs_is_named(world: World) -> None:
    folder = world.folder / "distilled" / "checkpoints"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "step-000000004.pt")  # opening it waits for ever, like a server that has gone away
    done = run(world.folder, world.pretrain(runtime={"workers": 0, "data_timeout": HANGS_AFTER}))
    assert done.returncode == REQUEUE_EXIT_CODE
    assert str(folder / "step-000000004.pt") in last_words(done)


def test_a_second_signal_does_not_change_the_exit_code(world: World) -> None:
    config = world.dump(store={"path": str(world.folder / "twice"), "topk": 5, "views": 40}, runtime={"workers": 2})
    process = start(world.folder, config, *on_a_slow_disk(world.folder))
    wait_for_file(process, world.folder / "twice", "s*/c.*.0.0")
    for pause in (0.05, 0.3, 0.6):
        process.terminate()
        time.sleep(pause)
    assert process.wait(60) == REQUEUE_EXIT_CODE


def test_a_shard_that_hangs_while_shards_are_opened_is_named(world: World) -> None:
    shard = world.folder / "shards" / "train-000001.tar"
    shard.unlink()
    os.mkfifo(shard)
    done = run(world.folder, world.pretrain(runtime={"workers": 0, "data_timeout": HANGS_AFTER}))
    assert done.returncode == REQUEUE_EXIT_CODE
    assert f"{shard}" in last_words(done)


def test_a_dump_of_a_store_that_is_complete_writes_nothing(readonly: World) -> None:
    dump_logits(readonly.dump(), solo_job())  # first: it imports what the other user may not read here
    with nobody():
        assert dump_logits(readonly.dump(), solo_job())["views"] == 0
        with pytest.raises(StoreError, match="cannot be made or grown"):
            dump_logits(readonly.dump(store={"path": str(readonly.store), "topk": 5, "views": 3}), solo_job())
    for path in (readonly.store / "s000001", readonly.store):
        path.chmod(0o755)
    (readonly.store / "s000001" / "c.1.0.0").unlink()
    readonly.store.chmod(0o555)
    with nobody(), pytest.raises(StoreError, match=r"read-only for this user\. Where: .*1 missing block"):
        dump_logits(readonly.dump(), solo_job())


@pytest.fixture
def readonly(dumped: Path) -> Iterator[World]:
    """Shards, teacher and store that may not be written by their reader, who has a folder of their own."""
    with readonly_copy(dumped, "*.idx.npz") as folder:
        (folder.parent / "mine").mkdir()
        (folder.parent / "mine").chmod(0o777)
        yield World(folder)


def test_shards_and_stores_that_cannot_be_written_are_read(readonly: World, world: World) -> None:
    mine = readonly.folder.parent / "mine"
    pretrain(world.pretrain(), solo_job())  # first: it imports what the other user may not read here
    with nobody():
        result = pretrain(readonly.pretrain(output=str(mine / "run")), solo_job())
    assert result["digests_checked"] == 2 * 96
    assert_same_weights(mine / "run", world.folder / "distilled")
    assert not list(readonly.folder.rglob("*.idx.npz"))


def test_an_image_that_changed_in_the_midst_of_a_shard_stops_the_run_by_name_before_it_is_used(world: World) -> None:
    shards = ShardSet.load(world.folder / "shards", "train")
    index = shards.index(1)
    tar = world.folder / "shards" / "train-000001.tar"
    first, second = (int(index.offsets[number]) for number in (20, 21))
    content = bytearray(tar.read_bytes())
    size = min(int(index.sizes[20]), int(index.sizes[21]))
    assert len(content) > 2 * (1 << 14), "the ends that a fingerprint covers would show it"
    content[first : first + size] = content[second : second + size]
    tar.write_bytes(content)
    with pytest.raises(ReplayError, match=rf"sample {index.key(20)} of shard train-000001\.tar"):
        pretrain(world.pretrain(), solo_job())
    assert (
        not list(world.folder.glob("distilled/checkpoints/*.pt"))
        or json.loads((world.folder / "distilled" / "metrics.jsonl").read_text().splitlines()[-1])["step"] < 6
    )


def test_a_model_that_was_damaged_after_its_run_is_made_again(world: World) -> None:
    pretrain(world.pretrain(), solo_job())
    model = world.folder / "distilled" / "model.safetensors"
    before = {name: tensor.clone() for name, tensor in weights(model.parent).items()}  # they are mapped from the file
    model.write_bytes(b"")
    pretrain(world.pretrain(), solo_job())
    after = weights(model.parent)
    assert all(torch.equal(after[name], before[name]) for name in before)


@NEEDS_REFERENCE
def test_too_little_memory_for_an_image_does_not_make_it_a_hole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory(*arguments: Any, really: Callable[..., Any] = Image.open, **options: Any) -> Any:
        if (world.folder / "other").exists():
            raise MemoryError
        return really(*arguments, **options)

    monkeypatch.setenv("TINYVIT_KD_NATIVE", "0")  # Pillow's decoder is the one that is short of it
    monkeypatch.setattr(Image, "open", short_of_memory)
    with pytest.raises(WorkerError, match="not enough memory"):
        dump_logits(world.dump(store={"path": str(world.folder / "other"), "topk": 5, "views": 1}), solo_job())
    assert len(LogitStore.open(world.folder / "other").missing_blocks()) == 3


def test_a_rank_with_another_teacher_does_not_write_into_the_store(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "tinyvit_kd.runs.open_shards._told_by_main"  # there is no rank 0: this one opens the indexes itself
    monkeypatch.setattr(told, lambda shards, _: shards.indexed(shards.summaries()))
    make_teacher(world.folder, seed=2)  # as on a machine whose own disk holds another file
    other = Job(1, 2, torch.device("cpu"))
    with pytest.raises(ManifestMismatchError, match="weights_hash"):
        dump_logits(world.dump(), other)
