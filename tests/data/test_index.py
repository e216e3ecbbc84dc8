"""An index finds the same images as tarfile, and hostile tars do it no harm."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.tars import sample, write_samples, write_tar
from tinyvit_kd.data.indexing.index import ShardIndex, scan_tar
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.tars.member_names import split_name
from tinyvit_kd.errors import ShardError

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def _keys(index: ShardIndex) -> list[str]:
    return [index.key(number) for number in range(len(index))]


def _contents(path: Path, index: ShardIndex) -> list[bytes]:
    data = path.read_bytes()
    return [data[o : o + s] for o, s in zip(index.offsets.tolist(), index.sizes.tolist(), strict=True)]


@pytest.mark.parametrize("format", FORMATS, ids=["ustar", "gnu", "pax"])
def test_an_index_finds_what_tarfile_finds(tmp_path: Path, format: int) -> None:
    long = "x" * 60 + "/" + "y" * 80  # needs a long-name header, but in ustar's prefix it fits
    names = [f"{long}{n}" for n in range(3)] + ["a", "b/c", "d.e/f"]
    path = write_tar(tmp_path / "a.tar", [m for n, name in enumerate(names) for m in sample(name, n)], format)
    index = scan_tar(path)
    with tarfile.open(path) as tar:
        expected = [m for m in tar if m.name.endswith(".jpg")]
    assert _keys(index) == names
    assert index.offsets.tolist() == [member.offset_data for member in expected]
    assert index.labels.tolist() == list(range(len(names)))
    assert _contents(path, index) == [f"image {name}".encode() for name in names]


def test_sizes_in_base_256_are_read(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 2)
    data = bytearray(path.read_bytes())
    data[124:136] = b"\x80" + (int(data[124:135], 8)).to_bytes(11, "big")
    header = tarfile.TarInfo.frombuf  # the checksum has to follow
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + 8 * 32 + sum(data[156:512]))
    path.write_bytes(data)
    assert header(bytes(data[:512]), "utf-8", "strict").size == 15
    assert _contents(path, scan_tar(path))[0] == b"image 000000000"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("000.jpg", ("000", "jpg")),
        ("./000.JPG", ("./000", "jpg")),
        ("a.b/000.seg.png", ("a.b/000", "seg.png")),
        ("._000.jpg", None),
        ("a/._000.jpg", None),
        ("a.b/README", None),
        ("000.", None),
    ],
)
def test_names_are_split_at_the_first_dot_of_the_base_name(name: str, expected: tuple[str, str] | None) -> None:
    assert split_name(name) == expected


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ({"cls": b"12\n"}, 12),
        ({"json": b'{"label": 7, "x": "y"}'}, 7),
        ({"cls": b"3", "json": b'{"label": 7}'}, 3),
        ({}, -1),
        ({"cls": b"cat"}, -1),
        ({"cls": b""}, -1),
        ({"cls": b"-4"}, -1),
        ({"cls": b"9" * 30}, -1),
        ({"json": b"[" * 100_000}, -1),
        ({"json": b'{"label": true}'}, -1),
        ({"json": b'{"label": 1.5}'}, -1),
        ({"json": b"[1, 2]"}, -1),
        ({"json": b"\xff"}, -1),
        ({"json": b'{"label": 99999999999999999999}'}, -1),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_a_label_is_an_integer_from_cls_or_json_or_missing(
    tmp_path: Path, members: dict[str, bytes], label: int
) -> None:
    parts = [("0.jpg", b"x"), *((f"0.{suffix}", content) for suffix, content in members.items())]
    assert scan_tar(write_tar(tmp_path / "a.tar", parts)).labels.tolist() == [label]


def test_hostile_members_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("/etc/0.jpg", "../../1.jpg", "dir.jpg", "link.jpg", "hard.jpg", "pipe.jpg", "2.jpg"):
            info = tarfile.TarInfo(name)
            kinds = {
                "dir": tarfile.DIRTYPE,
                "link": tarfile.SYMTYPE,
                "hard": tarfile.LNKTYPE,
                "pipe": tarfile.FIFOTYPE,
            }
            info.type = kinds.get(name.partition(".")[0], tarfile.REGTYPE)
            info.linkname = "/etc/passwd" if info.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            tar.addfile(info)
    assert _keys(scan_tar(path)) == ["/etc/0", "../../1", "2"]


def test_repeated_keys_are_separate_samples(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [*sample("k", 1, b"one"), *sample("k", 2, b"two"), *sample("l", 3, b"x")])
    index = scan_tar(path)
    assert _keys(index) == ["k", "k", "l"]
    assert index.labels.tolist() == [1, 2, 3]
    assert _contents(path, index) == [b"one", b"two", b"x"]


def test_samples_without_an_image_do_not_count_and_other_files_do_not_matter(tmp_path: Path) -> None:
    members = [("0.cls", b"1"), ("1.txt", b"t"), ("1.seg.png", b"s"), ("1.webp", b"w"), ("README", b"r")]
    index = scan_tar(write_tar(tmp_path / "a.tar", members))
    assert _keys(index) == ["1"]
    assert index.sizes.tolist() == [1]


def test_keys_that_are_not_utf8_can_be_read_by_people(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    index = scan_tar(write_tar(tmp_path / "a.tar", [(name, b"x")], tarfile.GNU_FORMAT))
    assert index.raw_key(0) == b"caf\xe9"
    assert index.key(0) == "caf\\xe9"


def test_an_empty_tar_has_no_samples(tmp_path: Path) -> None:
    index = scan_tar(write_tar(tmp_path / "a.tar", []))
    assert len(index) == 0
    assert len(load_index(tmp_path / "a.tar")) == len(load_index(tmp_path / "a.tar")) == 0


@pytest.mark.parametrize("kept", [0, 100, 512, 1024, 1500, 2048, 5 * 512 + 7])
def test_a_truncated_tar_is_refused(tmp_path: Path, kept: int) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 3)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ShardError, match=r"truncated or damaged.*a\.tar"):
        scan_tar(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3071), st.integers(0, 255)), min_size=1, max_size=6))
def test_damage_gives_a_shard_error_or_an_index_within_the_tar(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 3)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place] = value
    path.write_bytes(data)
    try:
        index = scan_tar(path)
    except ShardError:
        return
    assert len(index) <= 3
    assert all(index.offsets + index.sizes <= len(data))


def test_a_negative_size_is_refused_and_does_not_loop(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 2)
    data = bytearray(path.read_bytes())
    data[1024 + 124 : 1024 + 136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 in base 256
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % (sum(data[1024:1172]) + 8 * 32 + sum(data[1180:1536]))
    path.write_bytes(data)
    with pytest.raises(ShardError, match="truncated or damaged"):
        scan_tar(path)


def test_a_gzipped_tar_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(gzip.compress(write_samples(tmp_path / "b.tar", 0, 2).read_bytes()))
    with pytest.raises(ShardError, match="gunzip"):
        scan_tar(path)


@pytest.mark.parametrize(
    "members",
    [
        [*sample("a", 0), *sample("b", 0), *sample("c", 0)],
        [*sample("b", 0), *sample("a", 0)],
        [*sample("a", 0, b"image x+"), *sample("b", 0)],
        [*sample("ab", 0, b"image a"), *sample("", 0, b"image b")],
    ],
    ids=["added", "moved", "resized", "renamed"],
)
def test_the_key_hash_changes_with_the_samples(tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
    original = scan_tar(write_tar(tmp_path / "a.tar", [*sample("a", 0), *sample("b", 0)]))
    relabelled = scan_tar(write_tar(tmp_path / "b.tar", [*sample("a", 5), *sample("b", 6)]))
    assert original.key_hash == relabelled.key_hash
    assert original.key_hash != scan_tar(write_tar(tmp_path / "c.tar", members)).key_hash
