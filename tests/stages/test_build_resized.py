"""``shards build --resize`` packs smaller files of large photos, says so, and is no build of another size."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import PIL
from PIL import Image

from tests.conftest import CommandLine
from tests.data.source_trees import write_tree
from tests.stages.built import build, built, refused
from tinyvit_kd.views.smaller import Smaller


def write_images(folder: Path) -> Path:
    """A large PNG, a small JPEG and a damaged file of each of two classes."""
    for name, level in (("cat", 40), ("dog", 200)):
        write_tree(folder, [f"{name}/damaged.jpg"], b"damaged")
        Image.new("RGB", (64, 48), (level, 0, 0)).save(folder / name / "large.png")
        Image.new("RGB", (16, 48), (level, 0, 0)).save(folder / name / "small.jpg")
    return folder


def test_large_images_are_encoded_anew_and_others_are_copied(tmp_path: Path, command_line: CommandLine) -> None:
    source, out = write_images(tmp_path / "images"), tmp_path / "out"
    options = ("--resize", "24", "--quality", "85", "--samples-per-shard", "4")
    ended = build(command_line, source, out, *options)
    for sample in built(out).values():
        path = source / sample.said["class_name"] / sample.said["filename"]
        if path.name == "large.png":
            assert sample.suffix == "jpg"
            assert sample.image == Smaller(24, 85)(path.read_bytes())
            assert Image.open(BytesIO(sample.image)).size == (32, 24)
        else:
            assert sample.image == path.read_bytes()
    assert "resized    2 samples" in ended.out
    assert json.loads(ended.out.splitlines()[-1])["resized"] == 2
    said = json.loads((out / "_info.json").read_text())["splits"]["train"]["resized"]
    assert said == {"side": 24, "quality": 85, "pillow": PIL.__version__}
    before = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    (out / "train-000000.tar").unlink()
    build(command_line, source, out, *options)
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == before


def test_a_build_of_another_size_is_refused(tmp_path: Path, command_line: CommandLine) -> None:
    source, out = write_images(tmp_path / "images"), tmp_path / "out"
    build(command_line, source, out)
    assert "resized" not in (out / ".train.plan.json").read_text()
    told = refused(command_line, source, out, "--resize", "24")
    assert "another build" in told
    assert '"quality": 90' in told
    build(command_line, source, tmp_path / "small", "--resize", "24")
    assert "resized" in refused(command_line, source, tmp_path / "small")
    assert "--quality" in refused(command_line, source, tmp_path / "other", "--quality", "80")
