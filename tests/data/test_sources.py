"""What of a source becomes a sample: images by their bytes, inside the source; all else is counted by its cause."""

from __future__ import annotations

import os
import socket
import tarfile
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from tests.data.source_trees import HEIC, JPEG, classes, tar_of, tar_of_tars, write_tree, zip_of
from tests.data.tars import write_tar
from tests.processes import nobody
from tinyvit_kd.data.building import source_rules
from tinyvit_kd.data.building.build import build_shards, build_splits
from tinyvit_kd.data.building.build_report import BuildReport
from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.left_out import Cause, Tally
from tinyvit_kd.data.building.source_levels import require_readable
from tinyvit_kd.data.building.source_rules import Listing, SourceRules
from tinyvit_kd.data.building.sources import list_classes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError


def build(source: Path, rules: SourceRules | None = None, split: str | None = "train") -> BuildReport:
    out = source.parent / "shards"
    return build_splits(source, out, split, samples_per_shard=100, seed=0, processes=1, rules=rules)


def listed(source: Path, rules: SourceRules | None = None) -> tuple[dict[str, list[str]], Tally]:
    """The names of each class's images, and what is left out."""
    listing = Listing(source, rules or SourceRules())
    found = list_classes(source, listing)
    return {each.class_name: [each.name(index) for index in range(len(each))] for each in found}, listing.left_out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "source", classes("cat", "dog"))


SUFFIXES = {
    "of JPEG": ("a.jpe", JPEG, "jpg"),
    "of JPEG, as browsers save it": ("a.JFIF", JPEG, "jpg"),
    "of AVIF": ("a.avif", b"\0\0\0\x1cftypavif\0\0\0\0", "avif"),
    "of HEIC": ("a.heic", HEIC, "heic"),
    "of TGA, which has no mark": ("a.tga", bytes(20), "tga"),
    "none": ("a", JPEG, "jpg"),
    "none, in a name with dots": ("my.cat.number.7", b"\x89PNG\r\n\x1a\n", "png"),
    "unknown": ("a.bin", b"RIFF\0\0\0\0WEBPVP8 ", "webp"),
    "wrong": ("a.png", JPEG, "png"),
    "of an image, of a damaged file": ("a.jpg", b"damaged", "jpg"),
    "of an image, of an empty file": ("a.gif", b"", "gif"),
}


@pytest.mark.parametrize("kind", ["folders", "tars", "zips"])
@pytest.mark.parametrize(("name", "content", "suffix"), SUFFIXES.values(), ids=SUFFIXES)
def test_an_image_is_packed_whatever_its_suffix(
    source: Path, name: str, content: bytes, suffix: str, kind: str
) -> None:
    (source / "cat" / name).write_bytes(content)
    if kind != "folders":
        packed = source.parent / kind
        packed.mkdir()
        for folder in source.iterdir():
            members = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
            if kind == "tars":
                write_tar(packed / f"{folder.name}.tar", members)
            else:
                write_zip(packed / f"{folder.name}.zip", members)
        source = packed
    report = build(source)
    assert report.left_out.counts == {}
    assert report.sets[0].total == 5
    with tarfile.open(source.parent / "shards" / "train-000000.tar") as tar:
        images = {each.name.partition(".")[2] for each in tar if not each.name.endswith((".cls", ".json"))}
    assert images == {"jpg", suffix}
    reader = report.sets[0].reader()
    assert content in [reader.read(0, index) for index in range(5)]


def write_zip(path: Path, members: list[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


@pytest.mark.parametrize("kind", ["folders", "tars", "zips"])
def test_what_is_no_image_is_counted_by_its_cause(source: Path, kind: str) -> None:
    others = {
        "notes.txt": b"hello",
        "page.html": b"<html>",
        "film.mp4": b"\0\0\0\x18ftypisom",
        "art.psd": b"8BPS",
        "photo.NEF": b"II*\0",
        "more.zip": b"PK\3\4",
        "Thumbs.db": JPEG,
        ".hidden.jpg": JPEG,
        "._0.jpg": b"\0\5\x16\7",
        ".ipynb_checkpoints/a.jpg": JPEG,
        "@eaDir/a.jpg/SYNO_THUMB.jpg": JPEG,
        "__MACOSX/a.jpg": JPEG,
        "lost+found/a.jpg": JPEG,
    }
    if kind == "folders":
        for name, content in others.items():
            path = source / "cat" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    else:
        source = source.parent / kind
        members = [("0.jpg", JPEG), ("1.jpg", JPEG), *others.items()]
        source.mkdir()
        if kind == "tars":
            write_tar(source / "cat.tar", members)
            tar_of(source / "dog.tar", ["0.jpg"])
        else:
            write_zip(source / "cat.zip", members)
            zip_of(source / "dog.zip", ["0.jpg"])
    names, left_out = listed(source)
    assert names["cat"] == ["0.jpg", "1.jpg"]
    assert left_out.counts == {Cause.NOT_AN_IMAGE: 4, Cause.CAMERA_RAW: 1, Cause.ARCHIVE: 1, Cause.HIDDEN: 7}
    assert left_out.suffixes == {".txt": 1, ".html": 1, ".mp4": 1, ".psd": 1}
    lines = "\n".join(left_out.lines({Cause.HIDDEN: "hidden", Cause.CAMERA_RAW: "raw"}))
    assert "hidden (7): " in lines
    assert "and 2 more" in lines
    assert "photo.NEF" in lines


def test_folders_of_systems_are_no_classes(source: Path) -> None:
    write_tree(source, ["@eaDir/a.jpg", "__MACOSX/cat/a.jpg", ".Trash-1000/a.jpg", "lost+found/", "#recycle/a.jpg"])
    names, left_out = listed(source)
    assert sorted(names) == ["cat", "dog"]
    assert left_out.counts == {Cause.HIDDEN: 5}


def test_images_beside_the_folders_of_classes_are_counted(source: Path) -> None:
    write_tree(source, ["poster.jpg", "readme.md"], b"")
    assert listed(source)[1].counts == {Cause.OUTSIDE_CLASSES: 1, Cause.NOT_AN_IMAGE: 1}


def test_links_inside_the_source_are_followed(source: Path) -> None:
    write_tree(source, [f"dog/more/{number}.jpg" for number in range(5)])
    (source / "cat" / "from_dog").symlink_to("../dog/more")
    (source / "cat" / "one.jpg").symlink_to(source / "dog" / "0.jpg")
    (source / "hound").symlink_to("dog")
    names, left_out = listed(source)
    assert names["cat"] == ["0.jpg", "1.jpg", "one.jpg", *(f"from_dog/{number}.jpg" for number in range(5))]
    assert names["hound"] == names["dog"]
    assert left_out.counts == {}
    shards = build_shards(source, source.parent / "out", "train", samples_per_shard=99, seed=0, processes=1)
    assert shards.total == 8 + 7 + 7


def test_links_out_of_the_source_are_followed_only_when_told(source: Path, tmp_path: Path) -> None:
    elsewhere = write_tree(tmp_path / "elsewhere", ["a.jpg", "b.jpg"])
    (source / "cat" / "folder").symlink_to(elsewhere)
    (source / "cat" / "file.jpg").symlink_to(elsewhere / "a.jpg")
    (source / "fox").symlink_to(elsewhere)
    with pytest.raises(ShardError, match=r"lead out.*3: fox, cat/file.jpg, cat/folder.*--outside-links follow"):
        build(source)
    assert not (tmp_path / "shards").exists()
    left = build(source, SourceRules(outside_links="leave-out"))
    assert left.left_out.counts == {Cause.OUTSIDE_LINK: 3}
    assert left.sets[0].total == 4
    names, left_out = listed(source, SourceRules(outside_links="follow"))
    assert names["cat"] == ["0.jpg", "1.jpg", "file.jpg", "folder/a.jpg", "folder/b.jpg"]
    assert names["fox"] == ["a.jpg", "b.jpg"]
    assert left_out.counts == {}


def test_a_source_that_is_a_link_itself_is_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    (source / "cat" / "one.jpg").symlink_to("../dog/0.jpg")
    assert listed(tmp_path / "link") == listed(source)


def test_links_that_lead_nowhere_or_to_a_folder_above_are_counted(source: Path) -> None:
    (source / "cat" / "gone.jpg").symlink_to("nothing.jpg")
    (source / "cat" / "itself.jpg").symlink_to("itself.jpg")
    (source / "cat" / "here").symlink_to(".")
    (source / "cat" / "above").symlink_to("..")
    (source / "cat" / "sub").mkdir()
    (source / "cat" / "sub" / "above").symlink_to("..")
    names, left_out = listed(source)
    assert names["cat"] == ["0.jpg", "1.jpg"]
    assert left_out.counts == {Cause.DANGLING: 2, Cause.LOOP: 3}


def test_pipes_and_sockets_are_not_opened(source: Path) -> None:
    os.mkfifo(source / "cat" / "pipe.jpg")
    (source / "cat" / "zeros.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(source / "cat")  # the path of a socket must be short
        server.bind("socket.jpg")
        os.chdir(here)
        names, left_out = listed(source, SourceRules(outside_links="follow"))
    assert names["cat"] == ["0.jpg", "1.jpg"]
    assert left_out.counts == {Cause.SPECIAL: 3}


@pytest.mark.parametrize("what", ["cat/secret/a.jpg", "cat/secret", "dog"])
def test_what_may_not_be_read_stops_the_build(what: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # which others may read, other than those of pytest
        Path(folder).chmod(0o755)
        source = write_tree(Path(folder) / "source", [*classes("cat", "dog"), "cat/secret/a.jpg"])
        (source / what).chmod(0)
        with nobody():
            listing = Listing(source)
            list_classes(source, listing)
        with pytest.raises(ShardError, match=rf"may not be read.*1: {what}.*chmod"):
            require_readable(listing)


def test_an_archive_is_a_source_of_the_class_folders_in_it(tmp_path: Path) -> None:
    names = [f"./photos/{name}" for name in (*classes("cat", "dog"), "dog/more/x.jpg")]
    whole = zip_of(tmp_path / "photos.zip", names)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("photos/empty/notes.txt", "none yet")
    report = build(whole, SourceRules(empty_classes="keep"))
    assert class_names(report.sets[0]) == ("cat", "dog", "empty")
    assert contents(report.sets[0]) == {
        name: {f"photos ./photos/{each}".encode() for each in found}
        for name, found in {
            "cat": ["cat/0.jpg", "cat/1.jpg"],
            "dog": ["dog/0.jpg", "dog/1.jpg", "dog/more/x.jpg"],
        }.items()
    }


def test_a_tar_of_class_tars_is_read_without_unpacking(tmp_path: Path) -> None:
    names = ("n01440764", "n01443537", "n01484850")
    report = build(tar_of_tars(tmp_path / "ILSVRC2012_img_train.tar", names))
    assert class_names(report.sets[0]) == names
    assert contents(report.sets[0]) == {name: {f"{name} {number}".encode() for number in range(2)} for name in names}


def class_names(shards: ShardSet) -> tuple[str, ...]:
    assert shards.class_list is not None
    return tuple(shards.class_list.ids)


def contents(shards: ShardSet) -> dict[str, set[bytes]]:
    """What follows the mark of each image, by class."""
    reader = shards.reader()
    found: dict[str, set[bytes]] = {}
    for index, label in enumerate(reader.labels(0, np.arange(shards.total)).tolist()):
        found.setdefault(class_names(shards)[label], set()).add(reader.read(0, index).removeprefix(JPEG))
    return found


def test_the_shards_may_lie_in_the_source(source: Path) -> None:
    out = source / "shards"
    for _ in range(2):
        shards = build_shards(source, out, "train", samples_per_shard=3, seed=0, processes=1)
        (out / "train-000001.tar").unlink()
    assert shards.total == 4


def test_the_shards_cannot_lie_among_the_classes(source: Path) -> None:
    with pytest.raises(ConfigError, match="another folder than the source"):
        build_shards(source, source, "train", samples_per_shard=3, seed=0, processes=1)


def test_a_long_listing_says_how_far_it_is(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed(source)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(source_rules, "_TELL_SECONDS", -1.0)
    write_tree(source, [f"cat/{number}.jpg" for number in range(2100)], b"")
    listed(source)
    assert capsys.readouterr().err.splitlines() == [
        f"listing {source}: {count} files so far" for count in ("1,024", "2,048")
    ]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><title>Not found", "text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "text"),
        (b"\1\2\3\4\5\6", "unknown"),
        (HEIC, "heic"),
        (b"\xff\x0a", "jxl"),
    ],
)
def test_samples_that_will_be_holes_are_counted_as_they_are_packed(source: Path, content: bytes, cause: str) -> None:
    (source / "cat" / "bad.jpg").write_bytes(content)
    report = build(source)
    assert report.sets[0].total == 5
    assert report.undecodable.counts == {cause: 1}
    assert report.undecodable.names[cause] == ["cat/bad.jpg"]


def test_images_of_known_formats_are_not_counted_as_holes(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "odd").symlink_to(shared_data / "odd_images")
    (tmp_path / "source" / "other").mkdir()
    (tmp_path / "source" / "other" / "0.tga").write_bytes(bytes(20))
    report = build(tmp_path / "source", SourceRules(outside_links="follow"))
    assert report.sets[0].total > 200
    assert report.undecodable.counts["empty"] == 1
    assert report.undecodable.counts["heic"] == report.undecodable.counts["jxl"] == 0


def test_two_tallies_are_joined() -> None:
    one, two = Tally(2), Tally(2)
    for number in range(3):
        one.add("x", f"a{number}")
        two.add("x", f"b{number}")
    one.join(two)
    assert one.counts == {"x": 6}
    assert one.some("x") == "a0, a1 and 4 more"


def test_names_that_cannot_be_shown_are_escaped() -> None:
    tally = Tally()
    tally.add("x", "a\nb\udcff")
    assert tally.some("x") == r"a\nb\udcff"


def test_a_listed_class_keeps_what_it_left_out(source: Path) -> None:
    write_tree(source, ["eel/a.psd", "eel/b.zip"], b"8BPS")
    eel: ClassSource = next(each for each in list_classes(source) if each.class_name == "eel")
    assert (len(eel), eel.archives, eel.others) == (0, 1, 1)


def test_a_tar_inside_a_tar_that_is_cut_is_named(tmp_path: Path) -> None:
    file = BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.size = 2000
        tar.addfile(info, BytesIO(bytes(2000)))
    whole = file.getvalue()
    path = write_tar(tmp_path / "all.tar", [("a.tar", whole), ("b.tar", whole[:1000])])
    with pytest.raises(ShardError, match=r"b\.tar in .*all\.tar"):
        list_classes(path)


def test_links_in_a_class_tar_stand_for_their_files(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        path = tmp_path / "source" / f"{name}.tar"
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member, kind, target in (
                ("0.jpg", tarfile.REGTYPE, ""),
                ("hard.jpg", tarfile.LNKTYPE, "0.jpg"),
                ("soft.jpg", tarfile.SYMTYPE, "0.jpg"),
                ("gone.jpg", tarfile.SYMTYPE, "nothing.jpg"),
                ("pipe.jpg", tarfile.FIFOTYPE, ""),
            ):
                info = tarfile.TarInfo(member)
                info.type, info.linkname = kind, target
                info.size = len(JPEG) if kind == tarfile.REGTYPE else 0
                tar.addfile(info, BytesIO(JPEG))
    names, left_out = listed(tmp_path / "source")
    assert names["cat"] == ["0.jpg", "hard.jpg", "soft.jpg"]
    assert left_out.counts == {Cause.DANGLING: 2, Cause.SPECIAL: 2}
    assert build(tmp_path / "source").sets[0].total == 6
