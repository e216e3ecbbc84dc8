"""Built shards hold every image once, byte for byte, and the same build always gives the same shards."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.tars import write_class_folders, write_tar
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.building.source_image import read_image
from tinyvit_kd.data.building.sources import list_classes
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError

CLASSES = {"n00000002": 7, "n00000001": 4, "tabby cat": 6}


def _build(source: Path, out: Path, split: str = "train", seed: int = 0, processes: int = 1) -> ShardSet:
    return build_shards(source, out, split, samples_per_shard=5, seed=seed, processes=processes)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder with one folder of images per class, and with files that are not images."""
    source = write_class_folders(tmp_path / "source", CLASSES)
    (source / "notes.txt").write_text("not a class")
    (source / "n00000001" / "Thumbs.db").write_text("not an image")
    (source / "n00000001" / "._0.JPEG").write_text("not an image")
    return source


def _as_tars(folders: Path, out: Path) -> Path:
    out.mkdir()
    for name in CLASSES:
        paths = sorted((folders / name).iterdir())
        write_tar(out / f"{name}.tar", [(path.name, path.read_bytes()) for path in paths])
    return out


def _as_zips(folders: Path, out: Path) -> Path:
    out.mkdir()
    for name in CLASSES:
        with zipfile.ZipFile(out / f"{name}.zip", "w") as archive:
            for number, path in enumerate(sorted((folders / name).iterdir())):
                method = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
                archive.write(path, f"{name}/{path.name}", method)
    return out


@pytest.mark.parametrize("kind", ["folders", "tars", "zips"])
def test_every_image_is_packed_once_with_its_label(folders: Path, tmp_path: Path, kind: str) -> None:
    source = {"folders": lambda: folders, "tars": lambda: _as_tars(folders, tmp_path / "tars")}.get(
        kind, lambda: _as_zips(folders, tmp_path / "zips")
    )()
    shards = _build(source, tmp_path / "out")
    assert shards.lengths.tolist() == [5, 5, 5, 2]
    assert shards.class_list is not None
    assert shards.class_list.ids == tuple(sorted(CLASSES))
    reader = shards.reader()
    found = []
    for shard, length in enumerate(shards.lengths.tolist()):
        labels = reader.labels(shard, np.arange(length)).tolist()
        found += [(shards.class_list.ids[label], reader.read(shard, i)) for i, label in enumerate(labels)]
    expected = [(name, p.read_bytes()) for name in CLASSES for p in (folders / name).glob("[0-9]*.JPEG")]
    assert sorted(found) == sorted(expected)


def test_samples_describe_themselves(folders: Path, tmp_path: Path) -> None:
    _build(folders, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["000000000.cls", "000000000.jpg", "000000000.json"]
        files = [tar.extractfile(name) for name in names if name.endswith(".json")]
        described = [json.load(file) for file in files if file is not None]
    ids = sorted(CLASSES)
    for each in described:
        name = each["wnid"] if "wnid" in each else each["class_name"]
        assert ("wnid" in each) == (name != "tabby cat")
        assert each["label"] == ids.index(name)
        assert (folders / name / each["filename"]).is_file()


def test_shards_mix_classes_and_depend_on_the_seed(folders: Path, tmp_path: Path) -> None:
    shards = _build(folders, tmp_path / "a", seed=1)
    labels = shards.reader().labels(0, np.arange(5)).tolist()
    assert len(set(labels)) > 1
    _build(folders, tmp_path / "b", seed=2)
    assert _bytes(tmp_path / "a") != _bytes(tmp_path / "b")


def test_bytes_are_the_same_for_any_number_of_processes(folders: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    _build(folders, tmp_path / "one")
    build_shards(
        folders,
        tmp_path / "two",
        "train",
        samples_per_shard=5,
        seed=0,
        processes=2,
        on_shard=lambda done, total: seen.append((done, total)),
    )
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")
    assert seen == [(n, 4) for n in range(1, 5)]


def test_a_build_goes_on_where_it_was_stopped(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _build(folders, out)
    whole = _bytes(out)
    kept = (out / "train-000000.tar").stat().st_mtime_ns
    (out / "train-000002.tar").unlink()
    (out / "_info.json").unlink()
    (out / ".train-000002.tar.0a1b.partial").write_bytes(b"torn")
    _build(folders, out)
    assert _bytes(out) == whole
    assert (out / "train-000000.tar").stat().st_mtime_ns == kept
    assert not list(out.glob(".*.partial"))


def test_a_killed_build_leaves_no_half_shard(tmp_path: Path) -> None:
    source = write_class_folders(tmp_path / "source", {"a": 60, "b": 60})
    out = tmp_path / "out"
    code = "import sys; from pathlib import Path; from tinyvit_kd.data.building.build import build_shards;"
    code += "source, out = map(Path, sys.argv[1:]);"
    code += "build_shards(source, out, 'train', samples_per_shard=1, seed=0, processes=1)"
    process = subprocess.Popen([sys.executable, "-c", code, str(source), str(out)])
    while process.poll() is None and len(list(out.glob("*.tar"))) < 5:
        time.sleep(0.002)
    process.kill()  # does nothing if the build has finished already
    process.wait()
    left = _bytes(out)
    assert not (out / "_info.json").exists() or len(left) == 120
    shards = build_shards(source, out, "train", samples_per_shard=1, seed=0, processes=1)
    assert shards.total == 120
    assert left.items() <= _bytes(out).items()
    expected = sorted(path.read_bytes() for path in source.rglob("*.JPEG"))
    assert sorted(shards.reader().read(shard, 0) for shard in range(120)) == expected


def test_another_build_into_the_same_folder_is_refused(folders: Path, tmp_path: Path) -> None:
    _build(folders, tmp_path / "out")
    with pytest.raises(ShardError, match=r"seed 0.*seed 3"):
        _build(folders, tmp_path / "out", seed=3)
    (folders / "n00000001" / "0.JPEG").write_bytes(b"changed")
    with pytest.raises(ShardError, match="source_hash"):
        _build(folders, tmp_path / "out")


def test_a_second_split_uses_the_classes_of_the_first(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    _build(folders, out)
    val = write_class_folders(tmp_path / "val", {"tabby cat": 2})
    shards = _build(val, out, "val")
    assert shards.reader().labels(0, np.arange(2)).tolist() == [2, 2]
    assert list(json.loads((out / "_info.json").read_text())["splits"]) == ["train", "val"]
    assert ShardSet.load(out, "train").total == 17
    other = write_class_folders(tmp_path / "other", {"dog": 1})
    with pytest.raises(ShardError, match="dog"):
        _build(other, out, "test")


def test_a_source_of_no_or_several_kinds_is_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ShardError, match="no images"):
        _build(tmp_path / "nothing", tmp_path / "out")
    write_tar(folders / "x.tar", [])
    with pytest.raises(ShardError, match=r"folders.*1 tars"):
        _build(folders, tmp_path / "out")


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source" / "class").mkdir(parents=True)
    (tmp_path / "source" / "other").mkdir()
    with pytest.raises(ShardError, match="no images"):
        _build(tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("split", ["", "../x", "a b", "a-b"])
def test_a_split_needs_a_plain_name(folders: Path, tmp_path: Path, split: str) -> None:
    with pytest.raises(ConfigError, match="split"):
        _build(folders, tmp_path / "out", split)


def test_a_damaged_zip_is_named(folders: Path, tmp_path: Path) -> None:
    source = _as_zips(folders, tmp_path / "zips")
    path = source / "n00000001.zip"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ShardError, match=r"n00000001\.zip"):
        _build(source, tmp_path / "out")


def test_an_image_that_changes_after_it_was_listed_is_named(folders: Path, tmp_path: Path) -> None:
    (listed, *_), files = list_classes(folders), ShardFiles()
    assert read_image(listed.image(1), files) == (folders / "n00000001" / "1.JPEG").read_bytes()
    (folders / "n00000001" / "0.JPEG").unlink()
    with pytest.raises(ShardError, match=r"0\.JPEG"):
        read_image(listed.image(0), files)
    (zipped, *_) = list_classes(_as_zips(folders, tmp_path / "zips"))
    path = tmp_path / "zips" / "n00000001.zip"
    path.write_bytes(b"\xff" * path.stat().st_size)
    for index in range(len(zipped)):  # stored and deflated ones
        with pytest.raises(ShardError, match=r"n00000001\.zip"):
            read_image(zipped.image(index), files)


def test_a_plan_that_cannot_be_read_is_another_build(folders: Path, tmp_path: Path) -> None:
    _build(folders, tmp_path / "out")
    (tmp_path / "out" / ".train.plan.json").write_text("torn {")
    with pytest.raises(ShardError, match="another build"):
        _build(folders, tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_timm_reads_what_was_built(tmp_path: Path) -> None:
    from timm.data.readers.reader_wds import ReaderWds

    source = write_class_folders(tmp_path / "source", CLASSES)
    for number, path in enumerate(sorted(source.rglob("*.JPEG"))):
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(path)
    _build(source, tmp_path / "out")
    reader = ReaderWds(root=str(tmp_path / "out"), split="train", is_training=False, batch_size=1)
    found = [(label, image.convert("RGB").tobytes()) for image, label in reader]
    expected = [
        (label, Image.open(path).tobytes())
        for label, name in enumerate(sorted(CLASSES))
        for path in (source / name).iterdir()
    ]
    assert sorted(found) == sorted(expected)
