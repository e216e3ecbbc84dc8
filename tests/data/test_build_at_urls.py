"""A build into an object store writes what a build into a folder writes, whole or not at all, whoever else builds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.s3 import BUCKET, S3Server
from tests.views.images import encoded, sample_image
from tinyvit_kd.data.building import shard_writer
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.indexing.index_file import write_index_beside
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runs.open_shards import fingerprint
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.open import open_storage


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twelve images of three classes."""
    for name in ("cat", "dog", "eel"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "images" / name / f"{number}.png").write_bytes(encoded(sample_image(8 + number, 8), "PNG"))
    return tmp_path / "images"


@pytest.fixture
def url(s3: S3Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder of a bucket that is empty."""
    yield f"s3://{BUCKET}/{request.node.originalname}/set"
    s3.faults.calm()


def build(images: Path, out: Path | str, split: str = "train", per_shard: int = 5) -> ShardSet:
    return build_shards(images, out, split, samples_per_shard=per_shard, seed=1, processes=1)


def content(storage: Storage) -> dict[str, bytes]:
    """All that a build writes, but for indexes, which tell times."""
    names = [entry.base for entry in storage.list() if entry.kind == "file"]
    return {name: storage.read(name) for name in names if not name.endswith((".npz", ".lock"))}


def test_a_bucket_gets_the_bytes_that_a_folder_gets(images: Path, url: str, tmp_path: Path, s3: S3Server) -> None:
    there, here = build(images, url), build(images, tmp_path / "set")
    assert content(open_storage(url)) == content(open_storage(tmp_path / "set"))
    assert fingerprint(there) == fingerprint(here)
    written = [path.rpartition("/")[2] for method, path in s3.faults.requests if method == "PUT"]
    assert written[-1] == "_info.json"
    assert sum(name.endswith(".idx.npz") for name in written) == len(there.names)


def test_a_build_that_breaks_off_looks_unfinished_and_is_finished_by_the_next(
    images: Path, url: str, monkeypatch: pytest.MonkeyPatch, s3: S3Server
) -> None:
    calls = []

    def broken(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write_index_beside(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shard_writer, "write_index_beside", broken)
    with pytest.raises(KeyboardInterrupt):
        build(images, url)
    with pytest.raises(ShardError, match="does not describe its shards"):
        ShardSet.load(url)
    monkeypatch.undo()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    s3.faults.calm()
    assert build(images, url).total == 12
    assert [path for method, path in s3.faults.requests if method == "PUT" and path.endswith(".tar")] == [
        f"/{BUCKET}/{url.split('/', 3)[3]}/train-000002.tar"
    ]


def test_shards_of_another_build_are_refused(images: Path, url: str) -> None:
    build(images, url)
    with pytest.raises(ShardError, match=r"another build.*samples_per_shard 5"):
        build(images, url, per_shard=4)


def test_two_builds_of_the_same_set_at_once_make_it_once(images: Path, url: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(build, images, url) for _ in range(2)]
        assert {fingerprint(each.result()) for each in both} == {fingerprint(build(images, tmp_path / "set"))}
    assert content(open_storage(url)) == content(open_storage(tmp_path / "set"))


def test_two_splits_that_are_built_at_once_are_both_described(images: Path, url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(build, images, url, split) for split in ("train", "val")]:
            assert each.result().total == 12
    assert [ShardSet.load(url, split).total for split in ("train", "val")] == [12, 12]


def test_a_web_server_is_no_place_for_shards(images: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        build(images, "https://127.0.0.1:1/set")
