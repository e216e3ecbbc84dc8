"""A shard set in a bucket or on a web server is the local one: opened with few requests, and read without a loss."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.data.tars import sample, write_samples, write_tar
from tests.storage.memory import MemoryStorage
from tests.storage.s3 import BUCKET, S3Server, every
from tests.storage.web import Parts, WholeFiles, web_server
from tinyvit_kd.config.data import LabelledShardsConfig
from tinyvit_kd.data.check import check_shards
from tinyvit_kd.data.known_shards import known_shards, tar_bytes
from tinyvit_kd.data.locating.served import split_url
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError, StorageError
from tinyvit_kd.runs.open_shards import fingerprint, label_fingerprint
from tinyvit_kd.storage.open import BACKENDS, open_storage

LENGTHS = (5, 3, 4, 6, 2, 1)
NAMES = [f"train-{shard:06d}.tar" for shard in range(len(LENGTHS))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A few shards with a description and a class list, without indexes."""
    home = tmp_path / "digits"
    home.mkdir()
    for shard, length in enumerate(LENGTHS):
        write_samples(home / NAMES[shard], 10 * shard, length)
    described = {"filenames": NAMES, "shard_lengths": list(LENGTHS)}
    (home / "_info.json").write_text(str({"name": "digits", "splits": {"train": described}}).replace("'", '"'))
    (home / "classes.txt").write_text("\n".join(f"class {number}" for number in range(60)))
    return home


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of a folder in an object store in memory, which threads share."""
    monkeypatch.setitem(BACKENDS, "memory", MemoryStorage)
    MemoryStorage.roots.clear()
    return f"memory://a-bucket/{request.node.originalname}/digits"


def put(url: str, content: bytes) -> None:
    """Write an object."""
    root, name = split_url(url)
    open_storage(root).write(name, content)


def upload(folder: Path, url: str) -> None:
    """Copy a folder to a URL, file by file in order of their names."""
    for path in sorted(folder.iterdir()):
        put(f"{url}/{path.name}", path.read_bytes())


def asked_for_tars(server: S3Server) -> Counter[str]:
    """How often each method was used on a tar itself."""
    return Counter(method for method, path in server.faults.requests if path.endswith(".tar"))


def require_same(remote: ShardSet, local: ShardSet) -> None:
    """Names, keys, labels and all samples are the same."""
    assert (remote.name, remote.names, remote.class_list) == (local.name, local.names, local.class_list)
    assert (fingerprint(remote), label_fingerprint(remote)) == (fingerprint(local), label_fingerprint(local))
    assert remote.label_counts() == local.label_counts()
    there, here = remote.reader(), local.reader()
    for shard, length in enumerate(local.lengths.tolist()):
        ours, theirs = local.index(shard), remote.index(shard)
        assert [theirs.key(each) for each in range(length)] == [ours.key(each) for each in range(length)]
        assert there.labels(shard, np.arange(length)).tolist() == here.labels(shard, np.arange(length)).tolist()
        assert [there.read(shard, each) for each in range(length)] == [here.read(shard, each) for each in range(length)]


# What a URL names.


@pytest.mark.parametrize("name", ["", "/*.tar", "/train-*", "/train-00000[0-5].tar", "/train-{000000..000005}.tar"])
def test_every_way_to_name_a_set_names_the_same_in_a_bucket(folder: Path, bucket: str, name: str) -> None:
    upload(folder, bucket)
    require_same(ShardSet.load(bucket + name), ShardSet.load(f"{folder}{name}"))


def test_wildcards_match_folders_and_a_name_that_exists_is_no_pattern(bucket: str, tmp_path: Path) -> None:
    content = write_samples(tmp_path / "a.tar", 0, 3).read_bytes()
    for name in ("x1/a.tar", "x2/a.tar", "x2/a.tar.idx.npz", "y/a.tar", "z/a[1].tar"):
        put(f"{bucket}/{name}", content)
    assert ShardSet.load(f"{bucket}/x*/*.tar").locations == (f"{bucket}/x1/a.tar", f"{bucket}/x2/a.tar")
    assert ShardSet.load(f"{bucket}/z/a[1].tar").names == ("a[1].tar",)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nix/*.tar", "there are no shards"),
        ("/nix", "Found: nothing"),
        ("/nix.tar", r"nix\.tar.*there is no such object: correct the URL"),
        ("", r"Found: tars in its folders set.*/set/\*\.tar"),
        ("/set", r"Found: 1 tars.*/set/\*\.tar"),
        ("/images", "Found: images.*a copy of the folder on a disk"),
    ],
)
def test_what_is_no_shard_set_in_a_bucket_is_told(bucket: str, tmp_path: Path, name: str, message: str) -> None:
    put(f"{bucket}/set/a.tar", write_samples(tmp_path / "a.tar", 0, 3).read_bytes())
    put(f"{bucket}/images/a.jpg", b"x")
    with pytest.raises(ShardError, match=message):
        ShardSet.load(bucket + name)


def test_what_a_plan_needs_is_known_without_reading_or_writing(folder: Path, bucket: str) -> None:
    upload(folder, bucket)
    found = known_shards(LabelledShardsConfig(path=bucket))
    assert (found.known, found.total) == (None, sum(LENGTHS))
    assert tar_bytes(found) == sum(path.stat().st_size for path in folder.glob("*.tar"))
    assert not any(name.endswith(".npz") for objects in MemoryStorage.roots.values() for name in objects)
    ShardSet.load(bucket).key_hashes()
    known = known_shards(LabelledShardsConfig(path=bucket)).known
    assert known is not None
    assert int(known.image_bytes.sum()) == ShardSet.load(folder).image_bytes


# A real server of the S3 protocol.


@pytest.fixture
def url(s3: S3Server, folder: Path, request: pytest.FixtureRequest) -> str:
    """The set in a bucket of the server, without indexes."""
    url = f"s3://{BUCKET}/{request.node.originalname}/digits"
    upload(folder, url)
    s3.faults.calm()
    return url


def test_a_set_in_a_bucket_is_the_local_one_and_its_tars_are_walked_through_once(
    url: str, folder: Path, s3: S3Server
) -> None:
    require_same(ShardSet.load(url), ShardSet.load(folder))
    s3.faults.calm()
    again = ShardSet.load(url, on_shard=lambda *_: None)
    assert fingerprint(again) == fingerprint(ShardSet.load(folder))
    assert asked_for_tars(s3) == {}  # sizes, times and tags come from a listing
    assert len(s3.faults.requests) <= len(LENGTHS) + 3  # an index each; the description, the classes, the listing


def test_a_set_that_was_copied_with_its_indexes_is_opened_by_them(folder: Path, s3: S3Server) -> None:
    local = ShardSet.load(folder)
    local.key_hashes()
    url = f"s3://{BUCKET}/copied/digits"
    upload(folder, url)
    s3.faults.calm()
    assert fingerprint(ShardSet.load(url)) == fingerprint(local)
    assert asked_for_tars(s3) == {"GET": 2 * len(LENGTHS)}  # both ends of each
    assert not any(method == "PUT" for method, _ in s3.faults.requests)


def test_an_index_that_is_older_than_its_tar_is_made_again(folder: Path, bucket: str) -> None:
    ShardSet.load(folder).key_hashes()
    upload(folder, bucket)
    changed = [part for n in range(60) for part in sample(f"{n:09d}", 7 if n == 33 else n)]
    before = write_tar(folder / "a.tar", [part for n in range(60) for part in sample(f"{n:09d}", n)])
    put(f"{bucket}/a.tar", before.read_bytes())
    assert ShardSet.load(f"{bucket}/a.tar").label_counts().largest == 59
    put(f"{bucket}/a.tar", write_tar(folder / "a.tar", changed).read_bytes())  # neither size nor ends differ
    assert int(ShardSet.load(f"{bucket}/a.tar").index(0).labels[33]) == 7


def test_where_nothing_can_be_written_indexes_are_kept_in_the_cache(
    url: str, folder: Path, s3: S3Server, tmp_path: Path
) -> None:
    s3.faults.choose = lambda _number, method, _path: "AccessDenied" if method == "PUT" else None
    cache = tmp_path / "cache"
    first = ShardSet.load(f"{url}/*.tar", cache_dir=cache)
    assert len(list(cache.rglob("*.idx.npz"))) == len(LENGTHS)
    s3.faults.requests.clear()
    assert fingerprint(ShardSet.load(f"{url}/*.tar", cache_dir=cache)) == fingerprint(first)
    assert "GET" not in asked_for_tars(s3)
    require_same(first, ShardSet.load(f"{folder}/*.tar"))


def test_refused_and_broken_answers_lose_and_double_nothing(
    url: str, folder: Path, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyvit_kd.storage.requests.LONGEST_WAIT", 0.1)
    s3.faults.choose = every(s503=5, s500=7, cut=6)
    require_same(ShardSet.load(f"{url}/train-00000[34]*"), ShardSet.load(f"{folder}/train-00000[34]*"))
    assert {"500", "503", "cut"} <= set(s3.faults.made)


def test_a_shard_that_is_replaced_after_the_set_was_opened_is_noticed(url: str, tmp_path: Path) -> None:
    shards = ShardSet.load(url, on_shard=lambda *_: None)
    put(f"{url}/{NAMES[1]}", write_samples(tmp_path / "other.tar", 70, LENGTHS[1]).read_bytes())
    assert shards.reader().read(0, 0) == b"image 000000000"
    with pytest.raises(ShardError, match=r"train-000001\.tar.*other keys or sizes"):
        shards.reader().read(1, 0)


@pytest.mark.parametrize("code", ["AccessDenied", "ExpiredToken"])
def test_a_refusal_is_told_in_a_paragraph(url: str, s3: S3Server, code: str) -> None:
    s3.faults.choose = lambda *_: code
    with pytest.raises(StorageError, match=f"{code}.*To do"):
        ShardSet.load(url)


def test_without_permission_to_list_each_shard_is_looked_at(url: str, folder: Path, s3: S3Server) -> None:
    s3.faults.choose = lambda _number, _method, path: "AccessDenied" if "list-type" in path else None
    assert fingerprint(ShardSet.load(url)) == fingerprint(ShardSet.load(folder))


def _read_elsewhere(reader: ShardReader, shard: int, index: int) -> bytes:
    return reader.read(shard, index)


@pytest.mark.slow
def test_a_used_reader_works_in_a_process_that_is_started_anew(url: str) -> None:
    reader = ShardSet.load(url).reader()
    expected = reader.read(0, 0)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read_elsewhere, (reader, 0, 0)) == expected
    assert pickle.loads(pickle.dumps(reader)).read(3, 1) == b"image 000000031"


def test_samples_are_read_from_copies_where_there_is_a_cache(url: str, s3: S3Server, tmp_path: Path) -> None:
    reader = ShardSet.load(url, cache_dir=tmp_path / "cache").reader()
    assert reader.read(0, 0) == b"image 000000000"
    s3.faults.calm()
    assert [reader.read(0, each) for each in range(1, 5)] == [b"image %09d" % each for each in range(1, 5)]
    assert s3.faults.requests == []


def test_without_a_cache_a_line_says_what_it_would_save(
    folder: Path, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(folder, bucket)
    ShardSet.load(bucket).reader()
    assert "a request of its own" in capsys.readouterr().err


def _decode(content: bytes) -> None:
    assert content.startswith(b"image ")


def test_a_check_finds_in_a_bucket_what_it_finds_on_a_disk(folder: Path, bucket: str) -> None:
    write_tar(folder / NAMES[2], [*sample("20", 1), *sample("20", 2), *sample("000000000", 3)])
    (folder / "_info.json").unlink()
    upload(folder, bucket)
    assert check_shards(ShardSet.load(f"{bucket}/*.tar"), _decode) == check_shards(
        ShardSet.load(f"{folder}/*.tar"), _decode
    )


# Web servers.


@pytest.fixture
def described(folder: Path) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    with web_server(folder.parent, Parts) as (root, asked):
        yield f"{root}/digits", asked


def test_a_set_on_a_web_server_is_the_local_one_and_is_walked_through_once(
    described: tuple[str, list[tuple[str, str, str]]], folder: Path, tmp_path: Path
) -> None:
    url, asked = described
    cache = tmp_path / "cache"
    require_same(ShardSet.load(url), ShardSet.load(folder, index_dir=tmp_path / "indexes"))
    ShardSet.load(url, cache_dir=cache).key_hashes()
    asked.clear()
    assert fingerprint(ShardSet.load(url, cache_dir=cache)) == fingerprint(ShardSet.load(folder))
    assert not [path for method, path, _ in asked if method == "GET" and path.endswith(".tar")]
    assert not list(cache.glob("*.tar"))


def test_a_set_that_a_web_server_has_with_its_indexes_is_opened_by_them(
    described: tuple[str, list[tuple[str, str, str]]], folder: Path
) -> None:
    url, asked = described
    local = ShardSet.load(folder)
    local.key_hashes()
    asked.clear()
    assert fingerprint(ShardSet.load(url)) == fingerprint(local)
    ranges = [part for method, path, part in asked if method == "GET" and path.endswith(".tar")]
    assert len(ranges) <= 3 * len(LENGTHS) + 1  # of each both ends, and a byte that comes with its size
    assert all(ranges)


def test_a_server_that_sends_whole_files_only_needs_a_cache(folder: Path, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl, by which webdataset fetches")
    with web_server(folder.parent, WholeFiles) as (root, _):
        with pytest.raises(ConfigError, match=r"whole files only.*cache_dir"):
            ShardSet.load(f"{root}/digits").key_hashes()
        require_same(ShardSet.load(f"{root}/digits", cache_dir=tmp_path / "cache"), ShardSet.load(folder))


def test_wildcards_on_a_web_server_are_refused_with_what_to_give(
    described: tuple[str, list[tuple[str, str, str]]],
) -> None:
    with pytest.raises(ShardError, match="by braces"):
        ShardSet.load(f"{described[0]}/train-*.tar")
