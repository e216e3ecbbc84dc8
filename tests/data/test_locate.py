"""Paths, patterns and URLs name what people mean by them; what they cannot mean is refused with what to say instead."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.data.tars import sample, write_samples, write_tar
from tests.views.images import encoded, sample_image
from tinyvit_kd.data.locating.locate import locate_shards
from tinyvit_kd.data.locating.remote import cache_name
from tinyvit_kd.data.locating.urls import below, name_of, names_tars
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, FieldDifference, ShardError

PNG = encoded(sample_image(8, 8), "PNG")
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


# Patterns.


def test_a_glob_names_the_same_shards_once_their_indexes_lie_beside_them(tmp_path: Path) -> None:
    for number in range(2):
        write_samples(tmp_path / f"train-{number}.tar", 10 * number, 3)
    for name in ("train-0.json", "train-list.txt", "train-0.tar.idx"):
        (tmp_path / name).write_text("beside")
    for _ in range(2):
        assert ShardSet.load(tmp_path / "train-*").names == ("train-0.tar", "train-1.tar")
    assert len(list(tmp_path.glob("*.idx.npz"))) == 2


@pytest.mark.parametrize("folder", ["[v1]", "a{b}", "what?", "star*"])
@pytest.mark.parametrize("name", ["train-*.tar", "train-0.tar", "train-{0..1}.tar", "train-[01].tar", ""])
def test_signs_of_patterns_in_the_name_of_a_folder_are_part_of_it(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    for number in range(2):
        write_samples(tmp_path / folder / f"train-{number}.tar", 10 * number, 3)
    description = '{"splits": {"train": {"filenames": ["train-0.tar", "train-1.tar"], "shard_lengths": [3, 3]}}}'
    (tmp_path / folder / "_info.json").write_text(description)
    expected = ("train-0.tar",) if name == "train-0.tar" else ("train-0.tar", "train-1.tar")
    assert ShardSet.load(f"{tmp_path}/{folder}/{name}".rstrip("/")).names == expected


def test_brackets_in_the_name_of_a_shard_are_part_of_it_or_a_pattern(tmp_path: Path) -> None:
    write_samples(tmp_path / "x[0].tar", 0, 3)
    write_samples(tmp_path / "x1.tar", 10, 4)
    assert ShardSet.load(tmp_path / "x[0].tar").names == ("x[0].tar",)
    assert ShardSet.load(tmp_path / "x[0]*").names == ("x[0].tar",)
    assert ShardSet.load(tmp_path / "x[01].tar").names == ("x1.tar",)


def test_all_that_braces_name_must_exist_also_beside_wildcards(tmp_path: Path) -> None:
    write_samples(tmp_path / "train-0.tar", 0, 3)
    with pytest.raises(ShardError, match=r"val-0\.tar"):
        ShardSet.load(f"{tmp_path}/{{train-*,val-0}}.tar")


def test_a_wildcard_among_others_that_meets_nothing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(tmp_path / "train-0.tar", 0, 3)
    assert ShardSet.load(f"{tmp_path}/{{train,val}}-*.tar").names == ("train-0.tar",)
    assert f"no shard matches {tmp_path}/val-*.tar" in capsys.readouterr().err


# What is no shard set.


def _images(folder: Path) -> Path:
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.JPG").write_bytes(b"x")
    return folder


def _nested(folder: Path) -> Path:
    (folder / "train").mkdir(parents=True)
    write_samples(folder / "train" / "0.tar", 0, 1)
    return folder


def _compressed(folder: Path) -> Path:
    folder.mkdir()
    (folder / "a.tar.gz").write_bytes(b"x")
    return folder


FOLDERS = {
    "folders of images": (_images, "folders of images.*shards build"),
    "images": (lambda folder: _images(folder) / "cat", "Found: images.*shards build"),
    "folders of tars": (_nested, r"its folders train.*train/\*\.tar"),
    "compressed tars": (_compressed, "decompress"),
}


@pytest.mark.parametrize(("make", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_of_something_else_is_told_what_to_do(tmp_path: Path, make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ShardError, match=message):
        locate_shards(str(make(tmp_path / "set")), None)


FILES = {
    "an image": (PNG, r"an image \(png\).*shards build"),
    "a zip": (b"PK\x03\x04" + bytes(600), "a zip"),
    "a web page": (b"\n<!DOCTYPE html><html>sign in" + b" " * 600, "a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "a text": (b"train-0.tar\ntrain-1.tar\n", r"text: 'train-0\.tar"),
    "a short text behind a byte order mark": (b"\xef\xbb\xbfn01440764\n", "text: 'n01440764"),
    "compressed": (b"\x28\xb5\x2f\xfd" + bytes(600), "unzstd"),
}


@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_a_file_of_another_kind_is_called_by_its_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ShardError, match=message) as caught:
        ShardSet.load(tmp_path / "a.tar")
    assert "damaged" not in str(caught.value)


# Names that look alike.


def test_a_path_in_another_form_of_unicode_is_told_apart_from_what_exists(tmp_path: Path) -> None:
    (tmp_path / COMPOSED).mkdir()
    if (tmp_path / DECOMPOSED).exists():
        pytest.skip("this file system takes both forms for one name")
    with pytest.raises(ShardError) as caught:
        ShardSet.load(tmp_path / DECOMPOSED / "a.tar")
    assert r"caf\xe9" in caught.value.found
    assert r"cafe\u0301" in caught.value.found


def test_a_split_in_another_form_of_unicode_is_told_apart(tmp_path: Path) -> None:
    write_samples(tmp_path / "a.tar", 0, 1)
    text = f'{{"splits": {{"{COMPOSED}": {{"filenames": ["a.tar"], "shard_lengths": [1]}}}}}}'
    (tmp_path / "_info.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        ShardSet.load(tmp_path, DECOMPOSED)
    assert (caught.value.found, caught.value.expected) == (r"cafe\u0301", r"one of caf\xe9")


@pytest.mark.parametrize("kind", [str, lambda text: (text,)], ids=["text", "list"])
def test_fields_of_a_manifest_that_look_alike_are_told_apart(kind: object) -> None:
    assert callable(kind)
    described = FieldDifference("shard_names", kind(COMPOSED), kind(DECOMPOSED)).describe("the shards")
    assert r"is caf\xe9 in the store and cafe\u0301 in the shards" in described


# URLs.


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://x.org/set/a.tar", "a.tar"),
        ("https://x.org/set/a.tar?download=true", "a.tar"),
        ("https://x.org/set/a.tar#part", "a.tar"),
        ("https://x.org/get?file=set/a.tar&token=1", "a.tar"),
        ("https://x.org/files/a.tar/content", "a.tar"),
        ("gs://bucket/A.TAR", "A.TAR"),
        ("https://x.org/set", None),
        ("https://x.org/set/?token=1", None),
        ("https://x.org/tar", None),
    ],
)
def test_a_url_names_a_tar_by_its_path_or_its_query(url: str, name: str | None) -> None:
    assert names_tars(url) == (name is not None)
    assert name is None or name_of(url) == name


def test_the_query_of_a_folder_goes_to_each_of_its_files() -> None:
    assert below("https://x.org/set/?sig=1", "_info.json") == "https://x.org/set/_info.json?sig=1"


def test_a_compressed_tar_is_refused_before_it_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="gunzip"):
        ShardSet.load("https://x.invalid/a.tar.gz?x=1", cache_dir=tmp_path)


@pytest.mark.parametrize("url", ["hf://datasets/x/set", "https://x.invalid/a.tar?sig=1", "pipe:sleep 60"])
def test_a_url_without_a_cache_is_refused_before_anything_is_fetched(url: str) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match="cache_dir"):
        ShardSet.load(url)
    assert time.monotonic() - began < 5


class Answers(BaseHTTPRequestHandler):
    """A server with one tar, one page, and refusals."""

    content: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        """Answer by the first part of the path."""
        kind = self.path.split("/")[1]
        code = int(kind) if kind.isdigit() else 200
        body = {"tar": self.content, "page": b"<html>sign in</html>"}.get(kind, b"")
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server on this machine."""
    if shutil.which("curl") is None:
        pytest.skip("needs curl, by which webdataset fetches")
    Answers.content = write_samples(tmp_path / "served.tar", 0, 3).read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_tar_behind_a_query_is_fetched_and_named_without_it(server: str, tmp_path: Path) -> None:
    shards = ShardSet.load(f"{server}/tar/a.tar?download=true", cache_dir=tmp_path / "cache")
    assert (shards.names, shards.total) == (("a.tar",), 3)
    assert shards.reader().read(0, 1) == b"image 000000001"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("401/a.tar", "401 Unauthorized.*log in"),
        ("403/a.tar", "403 Forbidden.*log in"),
        ("404/a.tar", "404 Not Found.*no such file"),
        ("404/set", "404 Not Found.*names no .tar"),
        ("404/train-*.tar", "404 Not Found.*by braces"),
        ("page/a.tar", "not a tar.*web page.*login"),
        ("empty/a.tar", "not a tar.*Found: nothing"),
    ],
)
def test_an_answer_that_is_no_tar_is_explained_and_not_kept(
    server: str, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(ShardError, match=message):
        ShardSet.load(f"{server}/{path}", cache_dir=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").glob("**/*")] == [".locks"] * (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("r2://bucket/a.tar", r"nothing here opens r2:// URLs.*pipe:aws s3 cp r2://bucket/a\.tar -"),
        ("what://bucket/a.tar", "nothing here opens what:// URLs.*pipe:COMMAND"),
        ("gs://bucket/a.tar", "the program .*opens gs:// URLs,? is not installed"),
        ("pipe:exit 3", "ended with exit code 3.*check the command"),
    ],
)
def test_a_missing_handler_is_named_with_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr("tinyvit_kd.data.locating.served._has_obstore", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))  # no programs; the shell of pipe: is found by its path
    with pytest.raises(ShardError, match=message):
        ShardSet.load(url, cache_dir=tmp_path / "cache")


def test_what_killed_fetches_left_behind_goes(tmp_path: Path) -> None:
    source = write_tar(tmp_path / "a.tar", sample("0", 1))
    url = f"pipe:cat {source}"
    old = [tmp_path / "cache" / name.format(cache_name(url)) for name in (".{}.0a.partial", "{}.temp12")]
    (tmp_path / "cache").mkdir()
    for path in old:
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    running = tmp_path / "cache" / f".{cache_name(url)}.0b.partial"
    running.write_bytes(b"another process")
    assert ShardSet.load(url, cache_dir=tmp_path / "cache").total == 1
    assert not any(path.exists() for path in old)
    assert running.exists()
