"""Stages whose store is an object store make what they make on a disk, whatever the service and the network do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.processes import wait_until
from tests.stages.commands import command, run, start
from tests.storage.s3 import BUCKET, S3Server, every
from tests.store.blocks import block_for, manifest_of
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.errors import ManifestMismatchError
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.shared_memory import start_method
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.stages.store.check import check
from tinyvit_kd.stages.store.info import info
from tinyvit_kd.store.check import remove_faults
from tinyvit_kd.store.names import block_name
from tinyvit_kd.store.store import LogitStore

WORKERS = {"workers": 2, "prefetch": 1}


def require_same_store(url: str, folder: Path) -> None:
    """Fail unless the store at a URL has the manifest and, byte for byte, the blocks of the one in a folder."""
    stored, local = LogitStore.open(url), LogitStore.open(folder)
    assert stored.manifest == local.manifest
    blocks = list(local.present_blocks([]))
    assert list(stored.present_blocks(stored.missing_blocks())) == blocks
    for name in (block_name(*block) for block in blocks):
        assert stored.storage.read(name) == local.storage.read(name)


def require_same_weights(folder: Path, one: str, other: str) -> None:
    """Fail unless two runs ended in the same weights."""
    (theirs, _), (ours, _) = (load_model_file(folder / name) for name in (one, other))
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


@pytest.mark.slow
def test_loading_processes_read_a_store_at_a_url_as_one_on_a_disk(world: World, s3: S3Server) -> None:
    url = f"s3://{BUCKET}/two-workers"
    dump_logits(world.dump(store={"path": url, "topk": 5, "views": 2}, runtime=WORKERS), solo_job())
    assert start_method() == "spawn"
    require_same_store(url, world.folder / "store")
    assert check(url, 1).sound
    assert "6 of 6" in info(url)[0]
    s3.faults.calm()
    output = world.folder / "remote"
    pretrain(world.pretrain(store={"path": url}, output=str(output), runtime=WORKERS), solo_job())
    blocks = [path for method, path in s3.faults.requests if method == "GET" and "/c." in path]
    assert len(blocks) >= len(set(blocks)) == 6
    assert not [path for method, path in s3.faults.requests if method == "HEAD" and "/c." in path]
    logged = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum(line.get("storage_requests", 0) for line in logged) >= len(blocks)
    pretrain(world.pretrain(), solo_job())
    require_same_weights(world.folder, "remote", "distilled")


@pytest.mark.slow
def test_refusals_cuts_and_a_kill_leave_the_same_store_and_weights(world: World, s3: S3Server) -> None:
    url = f"s3://{BUCKET}/faults"
    s3.faults.choose = every(s500=13, s503=7, cut=11, slow=19)
    dump = world.dump(store={"path": url, "topk": 5, "views": 2})
    process = start(world.folder, dump)
    try:
        wait_until(lambda: [path for method, path in s3.faults.requests if "/c." in path], "no block was written")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    ended = run(world.folder, dump)
    assert ended.returncode == 0, ended.stderr
    assert "refused or cut off and made again" in ended.stderr
    require_same_store(url, world.folder / "store")
    training = world.pretrain(store={"path": url}, output=str(world.folder / "remote"))
    ended = run(world.folder, training)
    assert ended.returncode == 0, ended.stderr
    assert {"500", "503", "cut", "slow"} <= set(s3.faults.made)
    pretrain(world.pretrain(), solo_job())
    require_same_weights(world.folder, "remote", "distilled")


@pytest.mark.slow
def test_a_run_follows_a_dump_through_a_bucket(world: World, s3: S3Server) -> None:
    store = {"path": f"s3://{BUCKET}/followed"}
    following = world.pretrain(store=store | {"follow": True}, output=str(world.folder / "remote"))
    process = start(world.folder, following)
    try:
        wait_until(lambda: [path for _, path in s3.faults.requests if "/followed" in path], "nothing was asked for")
        dump_logits(world.dump(store=store | {"topk": 5, "views": 2}, block_order="views"), solo_job())
        assert process.wait(120) == 0
    finally:
        process.kill()
    pretrain(world.pretrain(), solo_job())
    require_same_weights(world.folder, "remote", "distilled")


@pytest.mark.slow
def test_a_signal_to_all_processes_that_are_being_started_stops_a_dump_as_any_other(world: World, s3: S3Server) -> None:
    dump = world.dump(store={"path": f"s3://{BUCKET}/stopped", "topk": 5, "views": 2}, runtime=WORKERS)
    process = subprocess.Popen(command(world.folder, dump), stderr=subprocess.PIPE, text=True, start_new_session=True)
    started = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # Two loading processes, and Python's own helper.
    wait_until(lambda: len(started.read_text().split()) >= 3, "no process was started")
    os.killpg(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 75
    assert said.splitlines()[-1] == "stopped by SIGTERM; run the same command again to continue"
    assert s3.faults.requests


def test_of_two_dumps_with_other_recipes_for_one_url_one_is_refused(s3: S3Server) -> None:
    url = f"s3://{BUCKET}/race"
    manifests = [manifest_of(), manifest_of(seed=8)]
    refused: list[Exception] = []

    def create(number: int) -> None:
        try:
            LogitStore.create(url, manifests[number])
        except ManifestMismatchError as error:
            refused.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert LogitStore.open(url).manifest in manifests
    assert s3.faults.requests


def test_a_store_is_listed_by_prefix_and_its_damage_is_found_and_removed(s3: S3Server) -> None:
    url = f"s3://{BUCKET}/listed"
    store = LogitStore.create(url, manifest_of())
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    s3.faults.calm()
    assert store.missing_blocks() == []
    assert store.complete_views() == store.manifest.views
    assert len(s3.faults.requests) == 2
    name = block_name(1, 2)
    content = store.storage.read(name)
    store.storage.write(name, content[:-1] + bytes([content[-1] ^ 1]))
    removed, left = remove_faults(store, check(url, 1))
    assert [fault.name for fault in removed] == [name]
    assert {fault.kind for fault in left} <= {"classes"}
    assert store.missing_blocks() == [(1, 2)]


def test_zarr_reads_a_store_at_a_url(s3: S3Server) -> None:
    zarr = pytest.importorskip("zarr")
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    url = f"s3://{BUCKET}/zarr"
    store = LogitStore.create(url, manifest_of())
    store.write_block(1, 2, block_for(store.manifest, 1, 2))
    client = from_url(url, client_options={"allow_http": True})
    array = zarr.open_group(ObjectStore(client, read_only=True), mode="r")["s000001"]
    assert np.array_equal(array[2], store.read_planes(1, 2))
    assert s3.faults.requests


BAD: dict[str, tuple[str, dict[str, str], str, int, str]] = {
    "bucket": ("s3://there-is-no-such-bucket/store", {}, "", 2, "no such bucket"),
    "denied": (f"s3://{BUCKET}/bad", {}, "AccessDenied", 2, "refuses permission"),
    "expired": (f"s3://{BUCKET}/bad", {}, "ExpiredToken", 2, "have expired"),
    "clock": (f"s3://{BUCKET}/bad", {}, "RequestTimeTooSkewed", 2, "clock of this machine is off"),
    "overloaded": (f"s3://{BUCKET}/bad", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "", 75, "does not answer"),
}


@pytest.mark.parametrize(("url", "environment", "fault", "code", "said"), BAD.values(), ids=list(BAD))
def test_what_is_wrong_with_a_storage_is_a_paragraph_and_an_exit_code(
    s3: S3Server,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: dict[str, str],
    fault: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr("tinyvit_kd.storage.requests.PATIENCE", 0.3)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if fault:
        s3.faults.choose = lambda _number, _method, _path: fault
    ended = command_line("store", "info", url)
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1


def test_a_dump_that_may_not_write_says_so_before_its_teacher_works(
    world: World, s3: S3Server, command_line: CommandLine
) -> None:
    url = f"s3://{BUCKET}/readonly"
    store = LogitStore.create(url, LogitStore.open(world.folder / "store").manifest)
    assert store.missing_blocks()
    recipe = world.folder / "dump.yaml"
    recipe.write_text(dump_yaml(world.dump(store={"path": url, "topk": 5, "views": 2})))
    s3.faults.choose = lambda _number, method, _path: "AccessDenied" if method == "PUT" else None
    ended = command_line("dump-logits", recipe)
    assert ended.code == 2
    assert "the storage refuses permission" in ended.err
    assert not [path for method, path in s3.faults.requests if method == "PUT" and "/c." in path]
