"""Of tars as people have them, all that can be read rightly is; what cannot is counted and named."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.tars import sample, write_samples, write_tar
from tests.views.images import encoded, sample_image
from tinyvit_kd.data.indexing.index import ShardIndex, scan_tar
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError

PNG = encoded(sample_image(8, 8), "PNG")
NEEDS_TAR = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


def _samples(index: ShardIndex) -> list[tuple[str, int]]:
    """Key and label of each sample."""
    return [(index.key(number), int(index.labels[number])) for number in range(len(index))]


def _contents(path: Path, index: ShardIndex) -> list[bytes]:
    data = path.read_bytes()
    return [data[o : o + s] for o, s in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True)]


def _left(index: ShardIndex) -> dict[str, list[str]]:
    """Names by cause of what is in no sample; of each cause all are named here."""
    assert index.leftovers is not None
    assert {cause: len(names) for cause, names in index.leftovers.names.items()} == index.leftovers.counts
    return index.leftovers.names


def _scan(path: Path, members: Iterable[tuple[str, bytes]]) -> ShardIndex:
    return scan_tar(write_tar(path, members))


# Archives that stand one behind the other.


@pytest.mark.parametrize("cut", [0, 512, 1024], ids=["as written", "two blocks of zeros", "one block of zeros"])
def test_all_archives_of_a_joined_tar_are_read(tmp_path: Path, cut: int) -> None:
    first = write_samples(tmp_path / "a.tar", 0, 3).read_bytes()
    end = len(first.rstrip(b"\0")) // 512 * 512 + 512
    if cut:
        first = first[: end + cut]
    (tmp_path / "joined.tar").write_bytes(first + write_samples(tmp_path / "b.tar", 3, 4).read_bytes())
    index = scan_tar(tmp_path / "joined.tar")
    assert _samples(index) == [(f"{n:09d}", n) for n in range(7)]
    assert _contents(tmp_path / "joined.tar", index) == [f"image {n:09d}".encode() for n in range(7)]
    assert index.leftovers == Leftovers(joined=1)


def test_a_joined_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = 2 * write_samples(tmp_path / "a.tar", 0, 3).read_bytes()
    for kept in (len(whole) // 2 + 300, len(whole) // 2 + 700, len(whole) // 2 + 6 * 512 + 3 * 512 - 7):
        (tmp_path / "b.tar").write_bytes(whole[:kept])
        with pytest.raises(ShardError, match="truncated or damaged"):
            scan_tar(tmp_path / "b.tar")


def test_a_header_of_zeros_in_the_middle_is_damage_not_an_end(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    content = bytearray(path.read_bytes())
    with tarfile.open(path) as tar:
        header = tar.getmember("000000002.jpg").offset
    content[header : header + 512] = bytes(512)
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"members behind byte 4,608"):
        scan_tar(path)


def test_bytes_behind_a_tar_are_named(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 2)
    path.write_bytes(path.read_bytes() + b"left by a copy")
    assert _left(scan_tar(path)) == {"trailing": ["from byte 10,240"]}


# Members of a sample that stand apart.


def test_files_of_a_sample_are_put_together_wherever_they_stand(tmp_path: Path) -> None:
    parts = [sample(f"{n:03}", n) for n in range(12)]
    scattered = [image for image, _ in parts] + [label for _, label in reversed(parts)]
    index = _scan(tmp_path / "a.tar", scattered)
    assert _samples(index) == [(f"{n:03}", n) for n in range(12)]
    assert _left(index) == {}
    tidy = _scan(tmp_path / "b.tar", [part for each in parts for part in each])
    assert (index.key_hash, index.label_hash) == (tidy.key_hash, tidy.label_hash)


def test_scattered_samples_of_joined_archives_stay_apart(tmp_path: Path) -> None:
    """Both archives number from 0: a file belongs to its own archive."""
    content = b""
    for label in (1, 2):
        parts = [sample(f"{n}", label, f"{label} {n}".encode()) for n in range(3)]
        members = [image for image, _ in parts] + [label for _, label in parts]
        content += write_tar(tmp_path / "part.tar", members).read_bytes()
    (tmp_path / "a.tar").write_bytes(content)
    assert _samples(scan_tar(tmp_path / "a.tar")) == [(key, label) for label in (1, 2) for key in "012"]


def test_labels_in_an_archive_of_their_own_are_found(tmp_path: Path) -> None:
    parts = [sample(f"{n}", n) for n in range(3)]
    images, labels = zip(*parts, strict=True)
    content = [write_tar(tmp_path / "part.tar", members).read_bytes() for members in (images, labels)]
    (tmp_path / "a.tar").write_bytes(b"".join(content))
    assert _samples(scan_tar(tmp_path / "a.tar")) == [("0", 0), ("1", 1), ("2", 2)]


def test_what_can_be_put_together_in_two_ways_is_counted_as_lost(tmp_path: Path) -> None:
    members = [("k.jpg", b"one"), ("l.jpg", b"x"), ("k.jpg", b"two"), ("m.jpg", b"y"), ("k.cls", b"1")]
    index = _scan(tmp_path / "a.tar", members)
    assert _samples(index) == [("k", -1), ("l", -1), ("k", -1), ("m", -1)]
    assert _left(index) == {"repeated": ["k.cls"]}


# Links.


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _with_links(path: Path, entries: Iterable[tuple[str, bytes] | tarfile.TarInfo]) -> ShardIndex:
    with tarfile.open(path, "w") as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                tar.addfile(info, io.BytesIO(entry[1]))
    return scan_tar(path)


def test_links_stand_for_the_files_that_they_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    index = _with_links(
        path,
        [
            ("./x/0.jpg", b"zero"),
            ("./x/0.cls", b"4"),
            _link("x/1.jpg", "x/0.jpg", tarfile.LNKTYPE),
            _link("x/1.cls", "x/0.cls", tarfile.LNKTYPE),
            _link("y/2.jpg", "../x/0.jpg", tarfile.SYMTYPE),
            _link("y/3.jpg", "z.jpg", tarfile.SYMTYPE),  # to a link, to a link, to a file further behind
            _link("y/z.jpg", "./last.jpg", tarfile.SYMTYPE),
            ("y/last.jpg", b"last"),
        ],
    )
    assert _samples(index) == [("./x/0", 4), ("x/1", 4), ("y/2", -1), ("y/last", -1), ("y/3", -1), ("y/z", -1)]
    assert _contents(path, index) == [b"zero"] * 3 + [b"last"] * 3
    assert _left(index) == {}


def test_links_that_lead_out_of_the_tar_or_in_circles_are_lost_and_named(tmp_path: Path) -> None:
    index = _with_links(
        tmp_path / "a.tar",
        [
            ("x/0.jpg", b"0"),
            _link("x/1.jpg", "/etc/passwd", tarfile.SYMTYPE),
            _link("x/2.jpg", "3.jpg", tarfile.SYMTYPE),
            _link("x/3.jpg", "2.jpg", tarfile.SYMTYPE),
            _link("y", "x", tarfile.SYMTYPE),
            _link("x/._4.jpg", "nothing", tarfile.SYMTYPE),
        ],
    )
    assert _samples(index) == [("x/0", -1)]
    assert _left(index) == {
        "link": ["x/1.jpg", "x/2.jpg", "x/3.jpg"],
        "folder_link": ["y"],
        "system": ["x/._4.jpg"],
    }


def test_a_long_chain_of_links_takes_no_time(tmp_path: Path) -> None:
    chain = [_link(f"{n}.jpg", f"{n + 1}.jpg", tarfile.SYMTYPE) for n in range(3000)]
    assert len(_with_links(tmp_path / "a.tar", [*chain, ("3000.jpg", b"end")])) == 3001
    index = _with_links(tmp_path / "b.tar", chain)
    assert index.leftovers is not None
    assert index.leftovers.counts == {"link": 3000}


@NEEDS_TAR
def test_gnu_tar_of_a_folder_with_hard_links_loses_no_image(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(f"photo {number}".encode())
        os.link(folder / f"{number}.jpg", folder / f"copy{number}.jpg")
    subprocess.run(["tar", "cf", tmp_path / "a.tar", "-C", folder, "."], check=True)
    index = scan_tar(tmp_path / "a.tar")
    contents = dict(zip([key for key, _ in _samples(index)], _contents(tmp_path / "a.tar", index), strict=True))
    assert contents == {f"./{prefix}{n}": f"photo {n}".encode() for n in range(3) for prefix in ("", "copy")}
    assert _left(index) == {}


@NEEDS_TAR
@pytest.mark.parametrize("format", ["gnu", "posix"])
def test_images_that_are_sparse_or_pipes_are_lost_and_named(tmp_path: Path, format: str) -> None:
    with (tmp_path / "0.jpg").open("wb") as file:
        file.truncate(5 << 20)
    (tmp_path / "1.jpg").write_bytes(b"one")
    os.mkfifo(tmp_path / "2.jpg")
    subprocess.run(
        ["tar", f"--format={format}", "-S", "-cf", "a.tar", "0.jpg", "1.jpg", "2.jpg"], check=True, cwd=tmp_path
    )
    index = scan_tar(tmp_path / "a.tar")
    assert _samples(index) == [("1", -1)]
    assert _left(index) == {"sparse": ["0.jpg"], "special": ["2.jpg"]}


# Names.

DOTS = {
    "numbers behind a dot": (["a.1.jpg", "a.1.cls", "a.2.jpg", "a.2.cls"], ["a.1", "a.2"], {}),
    "dates": (["p.2019.01.jpeg", "p.2019.02.jpeg"], ["p.2019.01", "p.2019.02"], {}),
    "a label of its own": (["x.y.jpg", "x.y.cls"], ["x.y"], {}),
    "spaces and capitals": (["Mr. Smith.JPG", "Mr. Jones.JPG"], ["Mr. Smith", "Mr. Jones"], {}),
    "apart": (["a.1.jpg", "b.jpg", "a.2.jpg"], ["a.1", "a.2", "b"], {}),
    "beside an image, with a label": (["b.jpg", "b.1.jpg", "b.1.cls"], ["b", "b.1"], {}),
    "beside an image, a number": (["b.jpg", "b.1.jpg"], ["b"], {"second_image": ["b.1.jpg"]}),
    "beside an image, a field": (["b.jpg", "b.seg.png"], ["b"], {"companion": ["b.seg.png"]}),
    "a field with a json": (["b.jpg", "b.seg.png", "b.seg.json"], ["b"], {"companion": ["b.seg.png"]}),
    "a field whose image is missing": (
        ["b.jpg", "b.seg.png", "b.cls", "c.seg.png", "c.cls"],
        ["b"],
        {"companion": ["b.seg.png"], "no_image": ["c.seg.png"]},
    ),
    "two kinds of image": (["b.png", "b.jpg"], ["b"], {"companion": ["b.png"]}),
    "the folder's dots": (["v1.2/a.jpg", "v1.2/b.jpg"], ["v1.2/a", "v1.2/b"], {}),
}


@pytest.mark.parametrize(("names", "keys", "left"), DOTS.values(), ids=DOTS)
def test_names_with_several_dots_lose_no_image(
    tmp_path: Path, names: list[str], keys: list[str], left: dict[str, list[str]]
) -> None:
    index = _scan(tmp_path / "a.tar", [(name, b"7" if name.endswith("cls") else b"x") for name in names])
    found = [key for key, _ in _samples(index)]
    assert found == keys
    assert _left(index) == left
    labelled = {name.removesuffix(".cls") for name in names if name.endswith(".cls")}
    assert {key for key, label in _samples(index) if label == 7} == labelled & set(found)


def test_a_label_may_be_for_all_images_of_a_key_and_bear_the_whole_name_of_an_image(tmp_path: Path) -> None:
    members = [("a.1.jpg", b"x"), ("a.2.jpg", b"y"), ("a.cls", b"3"), ("b.jpg", b"z"), ("b.jpg.json", b'{"label": 4}')]
    assert _samples(_scan(tmp_path / "a.tar", members)) == [("a.1", 3), ("a.2", 3), ("b", 4)]


def test_images_without_a_known_suffix_are_known_by_their_bytes(tmp_path: Path) -> None:
    members = [("IMG_1", PNG), ("IMG_1.cls", b"5"), ("2.bin", PNG), ("3.bin", b"no image"), ("4.jpg", b"x"), ("4", PNG)]
    index = _scan(tmp_path / "a.tar", members)
    assert _samples(index) == [("IMG_1", 5), ("2", -1), ("4", -1)]
    assert _left(index) == {"other": ["3.bin", "4"][::-1]}


def test_files_of_the_system_are_passed_over_and_counted_as_no_loss(tmp_path: Path) -> None:
    junk = ["._0.jpg", "x/._0.jpg", "__MACOSX/0.jpg", "PaxHeaders.12/0.jpg", "./PaxHeader/1.jpg"]
    index = _scan(tmp_path / "a.tar", [*((name, b"x") for name in junk[:3]), *sample("0", 1), (".DS_Store", b"x")])
    assert _samples(index) == [("0", 1)]
    assert _left(index) == {"system": junk[:3], "hidden": [".DS_Store"]}
    assert index.leftovers is not None
    assert index.leftovers.lost == 0
    assert _left(_scan(tmp_path / "b.tar", [(name, b"x") for name in junk[3:]])) == {"system": junk[3:]}


def test_samples_without_an_image_are_lost(tmp_path: Path) -> None:
    members = [
        ("0.cls", b"1"),
        *sample("1", 1),
        ("2.json", b'{"label": 3}'),
        ("about.json", b"{}"),
        ("README.txt", b"r"),
    ]
    index = _scan(tmp_path / "a.tar", members)
    assert _left(index) == {"no_image": ["0.cls", "2.json"], "other": ["about.json", "README.txt"]}


def test_a_tar_of_which_no_member_is_an_image_has_lost_them_all(tmp_path: Path) -> None:
    index = _scan(tmp_path / "a.tar", [("0.npy", b"x"), ("1.npy", b"y")])
    assert _left(index) == {"not_an_image": ["0.npy", "1.npy"]}
    assert index.leftovers is not None
    assert index.leftovers.lost_fraction(len(index)) == 1


def test_what_is_left_out_is_kept_with_the_index(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.cls", b"1"), *sample("1", 1), ("._1.jpg", b"m")])
    made, kept = load_index(path), load_index(path)
    assert made.leftovers == kept.leftovers == Leftovers({"no_image": 1, "system": 1}, _left(made))


# What the commands say.


@pytest.mark.parametrize("command", ["index", "info", "check"])
def test_each_command_counts_and_names_what_is_lost(tmp_path: Path, command_line: CommandLine, command: str) -> None:
    write_tar(tmp_path / "a.tar", [*sample("0", 1, PNG), ("1.cls", b"1"), ("._0.jpg", b"m")])
    write_tar(tmp_path / "b.tar", [])
    ended = command_line("shards", command, tmp_path / "*.tar")
    assert ended.code == (1 if command == "check" else 0)
    assert "samples that have a label or further files, but no image: 1 (a.tar:1.cls)" in ended.out
    assert "files of macOS or of tar itself (._…, __MACOSX, PaxHeader): 1 (a.tar:._0.jpg)" in ended.out
    assert "without a sample" in ended.out
    assert "b.tar" in ended.out
    assert command != "check" or ended.out.endswith("not sound\n")


def test_a_tidy_tar_of_two_joined_ones_is_sound(tmp_path: Path, command_line: CommandLine) -> None:
    content = [write_tar(tmp_path / "part.tar", sample(key, 1, PNG)).read_bytes() for key in ("a", "b")]
    (tmp_path / "joined.tar").write_bytes(b"".join(content))
    ended = command_line("shards", "check", tmp_path / "joined.tar")
    assert ended.code == 0
    assert "2 samples in 1 shard\n" in ended.out
    assert "archives behind the first one of their tar, read as well: 1" in ended.out
    described = command_line("shards", "info", tmp_path / "joined.tar").out
    assert "shards     1, of 2 samples\n" in described
