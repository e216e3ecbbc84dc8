"""Paths of images, as people give them: files in their order, folders with all that is in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tinyvit_kd.data.image_paths import find_images
from tinyvit_kd.errors import ConfigError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_gives_its_images_and_those_below_in_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.JPG", "notes.txt", "z/2.webp", "z/1.jpeg", "a/deep/er/0.gif", "image")
    found = [str(path.relative_to(tmp_path)) for path in find_images([tmp_path])]
    assert found == ["a.JPG", "b.png", "a/deep/er/0.gif", "z/1.jpeg", "z/2.webp"]


def test_hidden_files_and_folders_are_no_images_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "._a.jpg", ".cache/b.jpg")
    assert find_images([tmp_path]) == [tmp_path / "a.jpg"]


def test_a_file_is_taken_whatever_it_is_called_and_as_often_as_it_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "image", "b/c.jpg", ".d.jpg")
    given = [tmp_path / "image", tmp_path / ".d.jpg", tmp_path / "b", tmp_path / "image"]
    assert find_images(given) == [tmp_path / "image", tmp_path / ".d.jpg", tmp_path / "b" / "c.jpg", tmp_path / "image"]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such image") as caught:
        find_images([tmp_path / "none.jpg"])
    assert caught.value.where == str(tmp_path / "none.jpg")


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ConfigError, match="there is no image in a folder"):
        find_images([tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(ConfigError, match="cannot read a folder of images"):
            find_images([tmp_path])
    finally:
        (tmp_path / "closed").chmod(0o700)
