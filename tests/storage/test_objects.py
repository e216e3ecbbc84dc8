"""Objects of a real S3 server are files of a storage, also where the server refuses and connections break."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.storage.s3 import BUCKET, Choice, S3Server, every
from tinyvit_kd.errors import StorageUnavailableError
from tinyvit_kd.storage import objects, requests
from tinyvit_kd.storage.objects import ObjectStorage
from tinyvit_kd.storage.open import open_storage


@pytest.fixture
def url(s3: S3Server, request: pytest.FixtureRequest) -> str:
    assert not s3.faults.made
    return f"s3://{BUCKET}/{request.node.name}"


def test_what_was_written_is_read_listed_and_removed(url: str, tmp_path: Path) -> None:
    storage = open_storage(url)
    storage.write("a/b", b"hello")
    storage.write("c", b"")
    assert storage.read("a/b") == b"hello"
    assert storage.read_range("a/b", 1, 3) == b"ell"
    assert storage.read_range("a/b", 3, 100) == b"lo"
    assert storage.read_range("a/b", 5, 1) == storage.read_range("a/b", 80, 4) == b""
    assert [(entry.name, entry.kind) for entry in storage.list()] == [("a", "folder"), ("c", "file")]
    assert [entry.name for entry in storage.list("a")] == ["a/b"]
    assert sorted(entry.name for entry in storage.walk()) == ["a/b", "c"]
    info = storage.info("a/b")
    assert info is not None
    assert info.size == 5
    assert storage.info("a") is None
    storage.fetch("a/b", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"hello"
    storage.fetch("c", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b""
    with pytest.raises(FileNotFoundError):
        storage.fetch("nothing", tmp_path / "nothing")
    storage.remove("a/b")
    storage.remove("a/b")
    assert storage.info("a/b") is None


def test_of_two_that_write_a_new_file_one_succeeds(url: str) -> None:
    storage = open_storage(url)
    assert storage.write_new("one", b"first")
    assert not storage.write_new("one", b"second")
    assert storage.read("one") == b"first"


def test_refused_slow_and_broken_answers_change_nothing(url: str, s3: S3Server) -> None:
    storage = open_storage(url)
    s3.faults.choose = every(s503=5, s500=7, cut=6, slow=17)
    for number in range(12):
        storage.write(f"{number}", bytes([number]) * 1000)
    assert [storage.read(f"{number}") for number in range(12)] == [bytes([number]) * 1000 for number in range(12)]
    assert {"500", "503", "cut", "slow"} <= set(s3.faults.made)


@pytest.fixture
def in_parts(url: str, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    """A storage that writes in parts what is larger than a MiB, and soon loses its patience."""
    monkeypatch.setattr(objects, "_SINGLE", 1 << 20)
    monkeypatch.setattr(objects, "_PART", 5 << 20)  # the least that services take
    monkeypatch.setattr(requests, "PATIENCE", 1.0)
    return ObjectStorage(url)


LARGE = bytes(range(256)) * (6 << 12)  # 6 MiB: two parts
FAILING: dict[str, Choice] = {
    "no part begins": lambda _number, method, path: "503" if method == "POST" and "uploads" in path else None,
    "a part": lambda _number, _method, path: "503" if "partNumber=2" in path else None,
    "the end": lambda _number, method, path: "500" if method == "POST" and "uploadId" in path else None,
    "the answer to the end": lambda _number, method, path: "cut" if method == "POST" and "uploadId" in path else None,
    "all that follows the beginning": lambda number, _method, _path: "503" if number else None,
    "all": lambda _number, _method, _path: "503",
}


@pytest.mark.parametrize("name", FAILING)
def test_a_large_object_that_cannot_be_written_is_given_up_within_the_limit(
    in_parts: ObjectStorage, s3: S3Server, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "large"
    path.write_bytes(LARGE)
    s3.faults.choose = FAILING[name]
    begin = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        in_parts.upload(path, "large")
    assert time.monotonic() - begin < 4


def test_a_large_object_arrives_in_spite_of_refused_and_lost_answers(
    in_parts: ObjectStorage, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(requests, "PATIENCE", 10.0)
    once: set[str] = set()

    def choose(_number: int, method: str, path: str) -> str | None:
        kind = method + ("part" if "partNumber" in path else "end" if "uploadId" in path else "begin")
        if kind in once or method in ("GET", "DELETE"):
            return None
        once.add(kind)
        return "503" if kind == "PUTpart" else "cut"

    s3.faults.choose = choose
    in_parts.write("large", LARGE)
    assert once == {"POSTbegin", "PUTpart", "POSTend"}
    in_parts.fetch("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == LARGE


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_a_large_object_that_cannot_be_fetched_is_given_up_within_the_limit(
    in_parts: ObjectStorage, s3: S3Server, tmp_path: Path, fault: str
) -> None:
    in_parts.write("large", LARGE)
    s3.faults.calm()
    s3.faults.choose = lambda number, _method, _path: fault if number else None  # the first part is sent
    begin = time.monotonic()
    with pytest.raises(StorageUnavailableError):
        in_parts.fetch("large", tmp_path / "large")
    assert time.monotonic() - begin < 5
    assert not (tmp_path / "large").exists()


def test_a_listing_that_is_refused_in_the_middle_goes_on_where_it_was(
    url: str, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(url)
    names = [f"s{number}/c.{number}" for number in range(9)]
    for name in names:
        storage.write(name, b"12")
    s3.faults.page = 2
    monkeypatch.setattr("tinyvit_kd.storage.objects._PAGE", 2)
    s3.faults.requests.clear()
    s3.faults.choose = every(s503=2)
    assert [(entry.name, entry.size) for entry in storage.walk()] == [(name, 2) for name in names]
    assert [entry.name for entry in storage.walk("s3")] == ["s3/c.3"]
    assert s3.faults.made["503"] >= 5


@pytest.mark.parametrize("name", ["run#1", "run?x=1", "50%25", "a b", "ä"])
def test_names_are_taken_as_they_are_written(url: str, name: str) -> None:
    open_storage(f"{url}/{name}").write("a", b"1")
    assert [entry.name for entry in open_storage(url).walk()] == [f"{name}/a"]
