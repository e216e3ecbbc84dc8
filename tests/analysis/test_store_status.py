"""How far a dump is, as its store and the files beside it show it. No block is read: here all are empty files."""

from __future__ import annotations

import errno
from pathlib import Path
from uuid import uuid4

import pytest

from tests.analysis.job_folders import NOW, make_store, progress, write
from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.analysis.jobs.part_status import stores_begun
from tinyvit_kd.analysis.jobs.store_status import store_status
from tinyvit_kd.storage.base import Entry
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.storage.open import open_storage


def test_missing_blocks_are_counted_by_shard(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store", missing=((1, 0), (1, 2), (3, 1)))
    status = store_status(str(path), NOW)
    assert (status.present, status.total, status.state) == (9, 12, "incomplete")
    assert status.missing_shards == {"train-1.tar": 2, "train-3.tar": 1}
    assert status.first_missing == (("train-1.tar", 0), ("train-1.tar", 2), ("train-3.tar", 1))


def test_a_complete_store_has_finished_whatever_its_dump_said_last(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store")
    write(tmp_path / "store.progress.json", progress(age=1000), age=1000)
    status = store_status(str(path), NOW)
    assert (status.state, status.parts[0].state) == ("finished", "finished")


def test_each_part_is_told_and_what_no_running_part_makes(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store", missing=((0, 0), (1, 0), (1, 1)))
    write(tmp_path / "store.part-1-of-2.progress.json", progress(rate=20.0, seconds_left=9.0))
    write(tmp_path / "store.part-2-of-2.progress.json", progress(age=500), age=500)
    status = store_status(str(path), NOW)
    assert [(part.part, part.state, part.missing) for part in status.parts] == [
        ((1, 2), "running", 1),
        ((2, 2), "silent", 2),
    ]
    assert (status.state, status.unattended, status.rate) == ("running", 2, 20)
    assert status.seconds_left is None, "nobody makes the rest"
    write(tmp_path / "store.part-2-of-2.progress.json", progress(rate=10.0, seconds_left=31.0))
    status = store_status(str(path), NOW)
    assert (status.unattended, status.rate, status.seconds_left) == (0, 30, 30)


def test_files_of_other_stores_are_not_taken_for_its_own(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store")
    for name in ("store2.progress.json", "store.other.log", "my-store.log", "store.part-1.log", "progress.json"):
        write(tmp_path / name, progress())
    assert store_status(str(path), NOW).parts == ()


def test_files_that_running_or_killed_dumps_left_are_counted(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store", missing=((0, 1),))
    (path / "s000000" / ".c.1.0.0.0123abcd.partial").touch()
    (path / "s000000" / "notes.txt").touch()
    assert store_status(str(path), NOW).unfinished == 1


def test_holes_come_from_the_results(tmp_path: Path) -> None:
    path = make_store(tmp_path / "store")
    assert store_status(str(path), NOW).holes is None
    write(tmp_path / "store.results.json", {"figures": {"holes": 7}, "seconds": 12.5})
    status = store_status(str(path), NOW)
    assert (status.holes, status.parts[0].seconds) == (7, 12.5)


def test_a_folder_that_cannot_be_listed_is_told_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_store(tmp_path / "store")
    list_folder = LocalStorage.list

    def refuse_one(self: LocalStorage, folder: str = "") -> list[Entry]:
        if folder == "s000002":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return list_folder(self, folder)

    monkeypatch.setattr(LocalStorage, "list", refuse_one)
    status = store_status(str(path), NOW)
    assert (status.unlisted, status.missing_shards) == (1, {"train-2.tar": 3})
    assert "1 shard folder cannot be listed" in status.notes[0]


def test_a_store_at_a_url_is_listed_at_once_not_shard_by_shard(
    tmp_path: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = make_store(tmp_path / "store", shards=40, missing=((1, 0), (39, 2)))
    url = f"s3://{BUCKET}/{uuid4().hex}/store"
    storage = open_storage(url)
    for file in path.rglob("*"):
        if file.is_file():
            storage.upload(file, str(file.relative_to(path)))
    s3.faults.calm()
    status = store_status(url, NOW)
    assert (status.present, status.total, status.state) == (118, 120, "incomplete")
    assert status.first_missing == (("train-1.tar", 0), ("train-39.tar", 2))
    assert len(s3.faults.requests) < 10
    s3.faults.choose = lambda _number, _method, path: "AccessDenied" if "list-type" in path else None
    refused = store_status(url, NOW)
    assert (refused.state, refused.total) == ("unknown", None)
    assert "permission" in (refused.message or "")


def test_a_dump_is_seen_before_its_store_is_there(tmp_path: Path) -> None:
    write(tmp_path / "store.part-2-of-8.progress.json", progress("starting", message="building the teacher"))
    assert stores_begun(tmp_path) == [str(tmp_path / "store")]
    status = store_status(str(tmp_path / "store"), NOW)
    assert (status.state, status.total, status.parts[0].part) == ("starting", None, (2, 8))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_manifest_is_told_not_raised(tmp_path: Path, content: str) -> None:
    write(tmp_path / "store" / "manifest.json", content)
    status = store_status(str(tmp_path / "store"), NOW)
    assert "manifest" in (status.message or "")
