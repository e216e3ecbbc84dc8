"""A run whose output is a URL is the run that it would be in a folder, on whichever machine it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from benchmarks.tiny_world import World
from tests.models.weights import assert_same_weights
from tests.runs.recorder import RunRecorder
from tests.storage.s3 import BUCKET, Fault, S3Server, every
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.errors import BusyError, CheckpointError, ConfigError, StorageError, StorageUnavailableError
from tinyvit_kd.runs import run_lease, run_mirror
from tinyvit_kd.runs.mirrored_home import MirroredHome
from tinyvit_kd.runs.run_names import USUAL, RunNames
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.objects import _NO_NAME
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.training.checkpoint import load_checkpoint

STEPS = 12


@pytest.fixture
def url(s3: S3Server) -> str:
    """Where nothing is yet."""
    del s3
    return f"s3://{BUCKET}/runs/{uuid4().hex}"


def recipe(world: World, output: str | Path, machine: str = "a-machine", **more: Any) -> PretrainConfig:
    return world.pretrain(
        output=str(output),
        runtime={"workers": 0, "work_dir": str(world.folder / machine)},
        **{"train": {"log_every": 1, "checkpoint_every": 4}, **more},
    )


def names(url: str) -> set[str]:
    """What is at a URL, apart from what writers leave of themselves."""
    return {entry.name for entry in open_storage(url).walk() if not entry.name.startswith("writer/")}


def checkpoints_at(url: str) -> list[int]:
    found = (name.partition("checkpoints/step-") for name in names(url))
    return sorted(int(rest.removesuffix(".pt")) for _, separator, rest in found if separator)


def steps_logged(location: str) -> list[int]:
    return [line["step"] for line in read_run(location).of_kind("train")]


@pytest.fixture(scope="module")
def reference(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run in a folder, which nothing stopped."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    pretrain(recipe(World(dumped), folder), solo_job())
    return folder


def assert_equals(url: str, reference: Path, folder: Path) -> None:
    """Check that the model at a URL is the one of the reference; it is fetched to a folder."""
    open_storage(url).fetch("model.safetensors", folder / "fetched" / "model.safetensors")
    assert_same_weights(folder / "fetched", reference)


def refusing(code: Fault, part: str, method: str = "PUT") -> Callable[[int, str, str], Fault | None]:
    """Refuse requests to objects whose name has a part."""
    return lambda _number, asked, path: code if asked == method and part in path else None


def test_a_run_at_a_url_leaves_there_what_a_run_leaves_in_its_folder(world: World, url: str, reference: Path) -> None:
    there = pretrain(recipe(world, url), solo_job())
    assert_equals(url, reference, world.folder)
    local = {str(path.relative_to(reference)) for path in reference.rglob("*.*")}
    logged = {name for name in names(url) | local if name.startswith("tensorboard/")}  # each has a time in its name
    assert names(url) - logged == local - logged - {".lock"}
    assert len(logged) == 2
    assert checkpoints_at(url) == [8, 12]
    assert pretrain(recipe(world, url, "another-machine"), solo_job()) == there  # it has finished


def test_a_run_that_has_failed_goes_on_elsewhere_from_its_last_checkpoint(
    world: World, url: str, reference: Path
) -> None:
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    assert checkpoints_at(url) == [4, 6]
    with pytest.raises(CheckpointError, match="another optim"):
        pretrain(recipe(world, url, "a-third-machine", optim={"base_lr": 0.01}), solo_job())
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, url, "another-machine"))
    assert recorder.batches[0].step == 6
    assert_equals(url, reference, world.folder)
    assert steps_logged(url) == list(range(1, STEPS + 1))
    assert len(json.loads(open_storage(url).read("attempts.json"))["attempts"]) == 3


def test_a_machine_that_is_lost_costs_back_to_the_last_checkpoint_that_arrived(
    world: World, url: str, s3: S3Server, reference: Path
) -> None:
    s3.faults.choose = lambda _number, method, path: (
        "AccessDenied" if method == "PUT" and "/step-" in path and "step-000000004" not in path else None
    )
    with suppress(StorageUnavailableError):  # it is asked to stop, unless it comes to its end before that
        RunRecorder().pretrain_up_to(11, recipe(world, url))
    s3.faults.calm()
    arrived = max(checkpoints_at(url))
    assert arrived == 4
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, url, "another-machine"))
    assert recorder.batches[0].step == arrived
    assert_equals(url, reference, world.folder)
    assert steps_logged(url) == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_refused_slow_and_cut_requests_change_nothing(world: World, url: str, s3: S3Server, reference: Path) -> None:
    s3.faults.choose = every(s503=5, cut=7, s500=11)
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    pretrain(recipe(world, url, "another-machine"), solo_job())
    assert s3.faults.made.keys() == {"500", "503", "cut"}
    s3.faults.calm()
    assert_equals(url, reference, world.folder)
    assert steps_logged(url) == list(range(1, STEPS + 1))


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(world: World, url: str, reference: Path) -> None:
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    storage = open_storage(url)
    name = "checkpoints/step-000000006.pt"
    storage.write(name, storage.read(name)[:-100])
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, url, "another-machine"))
    assert recorder.batches[0].step == 4
    assert_equals(url, reference, world.folder)


def test_a_checkpoint_that_is_damaged_here_hides_and_displaces_none_that_is_whole_at_the_url(
    world: World, url: str, reference: Path
) -> None:
    config = recipe(world, url, train={"log_every": 1, "checkpoint_every": 4, "keep_checkpoints": 1})
    RunRecorder().pretrain_up_to(6, config)
    folder = run_folder(config) / "checkpoints"
    (newest,) = folder.glob("*.pt")
    newest.write_bytes(newest.read_bytes()[:-100])
    (folder / "step-000000007.pt").write_bytes(b"")  # as a power loss may leave it
    recorder = RunRecorder()
    recorder.pretrain(config)
    assert recorder.batches[0].step == 6
    assert_equals(url, reference, world.folder)


@pytest.mark.slow
def test_credentials_that_expire_stop_the_run_and_the_same_machine_loses_nothing(
    world: World, url: str, s3: S3Server, reference: Path
) -> None:
    s3.faults.choose = refusing("ExpiredToken", "step-")
    with pytest.raises(StorageUnavailableError, match=r"expired.*run the same command again on this machine") as caught:
        pretrain(recipe(world, url), solo_job())
    assert caught.value.can_be_retried
    assert checkpoints_at(url) == []
    s3.faults.calm()
    kept = load_checkpoint(sorted((run_folder(recipe(world, url)) / "checkpoints").glob("*.pt"))[-1])["step"]
    assert kept >= 4
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, url))
    assert [seen.step for seen in recorder.batches] == list(range(kept, STEPS))
    assert_equals(url, reference, world.folder)


def test_what_may_not_be_written_is_refused_before_the_first_step(world: World, url: str, s3: S3Server) -> None:
    s3.faults.choose = refusing("AccessDenied", "/")
    with pytest.raises(StorageError, match="permission"):
        pretrain(recipe(world, url), solo_job())
    s3.faults.calm()
    assert names(url) == set()


@pytest.mark.slow
def test_what_is_removed_at_the_url_is_begun_anew_and_what_is_here_is_put_aside(world: World, url: str) -> None:
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    storage = open_storage(url)
    for entry in list(storage.walk()):
        storage.remove(entry.name)
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, url, optim={"base_lr": 0.01}))
    assert recorder.batches[0].step == 0
    folder = run_folder(recipe(world, url))
    (aside,) = folder.parent.glob(f"{folder.name}.earlier-*")
    assert (aside / "checkpoints" / "step-000000006.pt").is_file()


def test_in_a_bucket_with_objects_of_others_a_run_touches_its_own_alone(
    world: World, s3: S3Server, reference: Path
) -> None:
    bucket = f"bucket-{uuid4().hex}"
    urlopen(Request(f"{s3.direct}/{bucket}", method="PUT")).close()
    theirs = {"images.tar", "notes.json", "runs/other/metrics.jsonl", "tensorboard/theirs", "checkpoints/notes.pt"}
    storage = open_storage(f"s3://{bucket}")
    for name in theirs:
        storage.write(name, b"of others")
    s3.faults.calm()
    RunRecorder().pretrain_up_to(6, recipe(world, f"s3://{bucket}"))
    recorder = RunRecorder()
    recorder.pretrain(recipe(world, f"s3://{bucket}", "another-machine"))
    assert recorder.batches[0].step == 6
    touched = [path for method, path in s3.faults.requests if any(f"/{name}" in path for name in theirs)]
    assert touched == []
    listed = {parse_qs(urlsplit(path).query)["prefix"][0] for _, path in s3.faults.requests if "list-type" in path}
    assert {each.partition("/")[0] for each in listed} <= {"checkpoints", "writer", _NO_NAME}
    assert {name: storage.read(name) for name in theirs} == dict.fromkeys(theirs, b"of others")
    folders = [run_folder(recipe(world, f"s3://{bucket}", machine)) for machine in ("a-machine", "another-machine")]
    assert not any((folder / name).exists() for folder in folders for name in theirs)
    first, second = ({path.name for path in folder.glob("tensorboard/*")} for folder in folders)
    assert first < second, "what loggers have left at the URL is fetched"
    assert_equals(f"s3://{bucket}", reference, world.folder)


def test_what_somebody_else_has_under_a_name_of_a_run_is_not_replaced(world: World, url: str) -> None:
    storage = open_storage(url)
    storage.write("log.txt", b"of others")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"somebody else.*log.txt, and no recipe.yaml"):
            pretrain(recipe(world, url), solo_job())
    assert [entry.name for entry in storage.walk()] == ["log.txt"]
    assert storage.read("log.txt") == b"of others"


def test_names_that_a_run_has_noted_lead_to_no_other_place(url: str) -> None:
    storage = open_storage(url)
    names = RunNames(storage)
    names.note(["a.tsv", "log.txt", "tensorboard/one"])
    assert RunNames(storage).read() == [*USUAL, "a.tsv", "tensorboard/one"]
    wrong = ["../up", "/etc/x", "checkpoints/a", "writer/b", ".mirror.json", "a//b", 5, "fine"]
    for content, expected in ((json.dumps(wrong), ["fine"]), ("{", []), ("5", [])):
        storage.write("writer/files.json", content.encode())
        assert RunNames(storage).read() == [*USUAL, *expected]


def test_one_process_writes_at_a_time(url: str) -> None:
    storage = open_storage(url)
    first, before = run_lease.claim(storage, None)
    assert before is None
    with pytest.raises(BusyError, match="another process is writing"):
        run_lease.claim(storage, None, wait=0)
    first.renew()
    second, before = run_lease.claim(storage, None, lasts=-1)  # the first is taken to be gone
    assert before == first.writer
    assert second.writer.run == first.writer.run
    with pytest.raises(BusyError, match="taken this run over"):
        first.renew()
    second.renew()
    second.release()
    third, _ = run_lease.claim(storage, None, wait=0)
    fourth, _ = run_lease.claim(storage, third.writer.token, wait=0)  # of the same folder, whose lock is free
    fourth.remove_earlier()
    assert [each.base for each in storage.list("writer")] in (["000004.json"], ["000004.json", "clock"])


def test_of_two_that_come_at_once_one_becomes_the_writer(url: str) -> None:
    storage = open_storage(url)
    assert run_lease._created(storage, 1, None) is not None
    assert run_lease._created(storage, 1, None) is None


def test_a_run_that_was_taken_over_stops_and_leaves_the_other_ones_files(
    world: World, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[run_lease.Lease] = []
    create = run_mirror.RunMirror.submit

    def submit(self: run_mirror.RunMirror, path: Path) -> None:
        if not taken:
            taken.append(run_lease.claim(open_storage(url), None, lasts=-1)[0])
            open_storage(url).write("log.txt", b"of the other one")
        create(self, path)

    monkeypatch.setattr(run_mirror.RunMirror, "submit", submit)
    with pytest.raises(BusyError, match="taken this run over"):
        pretrain(recipe(world, url), solo_job())
    assert open_storage(url).read("log.txt") == b"of the other one"
    assert "model.safetensors" not in names(url)


def test_other_machines_fetch_the_checkpoint_of_rank_0(world: World, url: str, tmp_path: Path) -> None:
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    run = json.loads(open_storage(url).read("writer/000001.json"))["run"]
    folder = tmp_path / "another"
    stale = folder / "checkpoints" / "step-000000006.pt"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another run that was here")
    (folder / ".mirror.json").write_text('{"run": "another"}')
    home = MirroredHome(open_storage(url), folder, run, 2, None)
    assert load_checkpoint(home.checkpoint_of(6))["step"] == 6


def test_other_machines_keep_as_many_checkpoints_as_rank_0(world: World, url: str, tmp_path: Path) -> None:
    RunRecorder().pretrain_up_to(6, recipe(world, url))
    run = json.loads(open_storage(url).read("writer/000001.json"))["run"]
    folder = tmp_path / "another"
    run_mirror.make_copy_of(folder, run)
    (folder / "checkpoints").mkdir()
    for step in (2, 4, 7):  # fetched at earlier starts; the last one could not be read
        (folder / "checkpoints" / f"step-{step:09d}.pt").write_bytes(b"a checkpoint")
    MirroredHome(open_storage(url), folder, run, 2, None).checkpoint_of(6)
    assert [int(path.stem[5:]) for path in sorted((folder / "checkpoints").iterdir())] == [4, 6, 7]
