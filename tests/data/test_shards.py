"""A shard set is found in every way that a recipe can name it, and random reads equal sequential ones."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import pickle
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.data.tars import sample, write_samples, write_tar
from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.indexing.summaries import Summary, summary_of
from tinyvit_kd.data.locating.remote import cache_name
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ConfigError, ShardError

LENGTHS = (5, 3, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three shards of a split ``train``, one of ``val``, and no description."""
    home = tmp_path / "digits"
    home.mkdir()
    for shard, length in enumerate(LENGTHS):
        write_samples(home / f"train-{shard:06d}.tar", 10 * shard, length)
    write_samples(home / "val-000000.tar", 90, 2)
    return home


def _describe(folder: Path, changes: dict[str, object] | None = None, name: str = "_info.json") -> None:
    train: dict[str, object] = {
        "name": "train",
        "filenames": [f"train-{shard:06d}.tar" for shard in range(3)],
        "shard_lengths": list(LENGTHS),
        "num_samples": 12,
    }
    val = {"name": "val", "filenames": ["val-000000.tar"], "shard_lengths": [2], "num_samples": 2}
    tree = {"name": "set", "splits": {"train": train | (changes or {}), "val": val}}
    (folder / name).write_text(json.dumps(tree))


@pytest.mark.parametrize("name", ["_info.json", "info.json"])
def test_a_folder_is_opened_by_its_description(folder: Path, name: str) -> None:
    _describe(folder, name=name)
    (folder / "classes.txt").write_text("cat\ndog\n")
    shards = ShardSet.load(folder, "train")
    assert (shards.name, shards.split, shards.total) == ("set", "train", 12)
    assert shards.lengths.tolist() == list(LENGTHS)
    assert shards.class_list is not None
    assert shards.class_list.ids == ("cat", "dog")


@pytest.mark.parametrize(
    ("pattern", "lengths"),
    [
        ("train-{000000..000002}.tar", LENGTHS),
        ("train-*.tar", LENGTHS),
        ("train-000001.tar", (3,)),
        ("{train-*,val-*}.tar", (*LENGTHS, 2)),
    ],
    ids=["braces", "glob", "one tar", "both"],
)
@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_patterns_name_shards_in_order(folder: Path, scheme: str, pattern: str, lengths: tuple[int, ...]) -> None:
    shards = ShardSet.load(f"{scheme}{folder}/{pattern}")
    assert shards.lengths.tolist() == list(lengths)
    assert shards.name == "digits"
    assert all("/" not in name for name in shards.names)
    assert shards.class_list is None


def test_shards_of_one_name_keep_distinct_names(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "more")
    shards = ShardSet.load(f"{tmp_path}/{{digits,more}}/val-000000.tar")
    assert len(set(shards.names)) == 2


def test_a_url_is_fetched_once_into_the_cache(folder: Path, tmp_path: Path) -> None:
    pattern = f"pipe:cat {folder}/train-{{000000..000002}}.tar"
    cache = tmp_path / "cache"
    reader = ShardSet.load(pattern, cache_dir=cache).reader()
    assert reader.read(1, 2) == b"image 000000012"
    shutil.rmtree(folder)
    again = ShardSet.load(pattern, cache_dir=cache)
    assert again.lengths.tolist() == list(LENGTHS)
    assert len(list(cache.glob("*.tar"))) == 3
    assert cache_name("http://a/x/0.tar") != cache_name("http://a/y/0.tar")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pipe:false {0..1}.tar", "cannot fetch"),
        ("pipe:echo not a tar", "what was fetched is not a tar.*text"),
        ("pipe:cat /nowhere/x.tar", "cannot fetch"),
    ],
)
def test_a_url_without_a_tar_is_refused(tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(ShardError, match=message):
        ShardSet.load(path, cache_dir=tmp_path)


def test_what_is_being_fetched_is_named_while_it_takes_long(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = []

    @contextmanager
    def saying(what: str) -> Iterator[None]:
        named.append(what)
        yield

    monkeypatch.setattr("tinyvit_kd.data.locating.remote.saying", saying)
    url = f"pipe:cat {folder}/val-000000.tar"
    ShardSet.load(url, cache_dir=tmp_path / "cache").index(0)
    assert named == [f"fetching {url}"]


def test_a_url_needs_a_cache(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cache_dir"):
        ShardSet.load(f"pipe:cat {folder}/val-000000.tar")


def test_a_split_must_be_named_where_there_are_several(folder: Path) -> None:
    _describe(folder)
    with pytest.raises(ConfigError, match="one of train, val"):
        ShardSet.load(folder)
    with pytest.raises(ConfigError, match="one of train, val"):
        ShardSet.load(folder, "test")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard_lengths": [1]}, "3 filenames and 1 shard_lengths"),
        ({"shard_lengths": "many"}, "splits.train.shard_lengths"),
        ({"filenames": ["../a.tar", "b.tar", "c.tar"]}, "leads out of its folder"),
        ({"filenames": ["/etc/passwd", "b.tar", "c.tar"]}, "leads out of its folder"),
        ({"filenames": ["a.tar", "a.tar", "b.tar"]}, "is repeated"),
        ({"filenames": [], "shard_lengths": []}, "no filenames"),
        ({"shard_lengths": [5, -3, 4]}, "negative"),
        ({"alt_label": "fine"}, "alt_label"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_wrong_description_is_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    _describe(folder, changes)
    with pytest.raises(ShardError, match=message):
        ShardSet.load(folder, "train")


def test_a_folder_without_description_is_refused_with_the_remedy(folder: Path) -> None:
    with pytest.raises(ShardError, match=r"\*\.tar"):
        ShardSet.load(folder)


@pytest.mark.parametrize("name", ["nothing-*.tar", "nothing.tar", "nothing-{0..3}.tar"])
def test_shards_that_are_not_there_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ShardError, match="nothing"):
        ShardSet.load(tmp_path / name)


def test_a_shard_of_another_length_than_described_is_refused(folder: Path) -> None:
    _describe(folder, {"shard_lengths": [5, 2, 4]})
    shards = ShardSet.load(folder, "train")
    with pytest.raises(ShardError, match=r"train-000001\.tar.*3 samples.*2, from _info\.json"):
        shards.key_hashes()


def test_random_reads_equal_a_sequential_reader(folder: Path) -> None:
    reader = ShardSet.load(f"{folder}/train-*.tar").reader()
    chosen = [(shard, index) for shard, length in enumerate(LENGTHS) for index in range(length)]
    found = {place: reader.read(*place) for place in reversed(chosen)}
    for shard in range(3):
        with tarfile.open(folder / reader.name(shard)) as tar:
            images = [tar.extractfile(m) for m in tar if m.name.endswith(".jpg")]
            expected = [image.read() for image in images if image is not None]
        assert [found[shard, index] for index in range(LENGTHS[shard])] == expected
    assert reader.key(2, 1) == "000000021"
    assert reader.labels(2, np.array([3, 0], dtype=np.int32)).tolist() == [23, 20]


def test_real_photos_read_as_tarfile_reads_them(shared_data: Path, tmp_path: Path) -> None:
    shards = ShardSet.load(shared_data / "photos", "train", index_dir=tmp_path)
    assert shards.total == 300
    reader = shards.reader()
    for shard in range(len(shards.names)):
        with tarfile.open(shards.locations[shard]) as tar:
            images = [member for member in tar if member.name.endswith(".jpg")]
            for index in range(0, len(images), 29):
                file = tar.extractfile(images[index])
                assert file is not None
                assert reader.read(shard, index) == file.read()
    assert len(set(shards.key_hashes())) == len(shards.names)
    assert int(reader.labels(0, np.arange(len(images))).min()) >= 0


def _read_elsewhere(reader: ShardReader, shard: int, index: int) -> bytes:
    return reader.read(shard, index)


@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_used_reader_works_in_another_process(folder: Path, start: str) -> None:
    reader = ShardSet.load(f"{folder}/train-*.tar").reader()
    expected = reader.read(0, 0)
    with multiprocessing.get_context(start).Pool(1) as pool:
        assert pool.apply(_read_elsewhere, (reader, 0, 0)) == expected
    assert pickle.loads(pickle.dumps(reader)).read(2, 1) == b"image 000000021"
    assert reader.read(0, 1) == b"image 000000001"


def test_no_more_files_are_open_than_the_limit(folder: Path) -> None:
    with ShardFiles(open_files=2) as files:
        for _ in range(3):
            for path in sorted(folder.glob("*.tar")):
                files.read(path, 0, 1)
        assert len(open_below(folder)) == 2
    assert open_below(folder) == []


def open_below(folder: Path) -> list[Path]:
    """The files in a folder that this process has open."""
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    places = [Path(os.readlink(link)) for link in links if os.path.lexists(link)]  # the listing's own has gone
    return [place for place in places if place.is_relative_to(folder)]


def test_a_shard_that_shrinks_while_it_is_read_is_noticed(folder: Path) -> None:
    reader = ShardSet.load(f"{folder}/val-*.tar").reader()
    reader.read(0, 0)
    os.truncate(folder / "val-000000.tar", 1000)
    with pytest.raises(ShardError, match=r"val-000000\.tar"):
        reader.read(0, 1)


def test_a_shard_that_is_removed_is_named(folder: Path) -> None:
    _describe(folder)
    shards = ShardSet.load(folder, "train")
    (folder / "train-000001.tar").unlink()
    assert shards.reader().read(0, 0) == b"image 000000000"
    with pytest.raises(ShardError, match=r"train-000001\.tar"):
        shards.reader().read(1, 0)


def test_an_empty_image_can_be_read(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", sample("0", 1, b""))
    assert ShardSet.load(tmp_path / "a.tar").reader().read(0, 0) == b""


def test_a_set_is_described_with_one_index_in_memory_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = []

    def counted(index: ShardIndex) -> Summary:
        alive.append(sum(isinstance(each, ShardIndex) for each in gc.get_objects()))
        return summary_of(index)

    monkeypatch.setattr("tinyvit_kd.data.shards.summary_of", counted)
    shards = ShardSet.load(f"{folder}/train-*.tar")
    assert (shards.label_counts().samples, shards.image_bytes, shards.empty_shards()) == (12, 12 * 15, [])
    assert shards.leftovers() == Leftovers()
    assert alive == [1, 1, 1]  # and each is read only once
