"""One shard set, a teacher and its stores, which tests must not change."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tiny_world import MIXED, VIEWS, World, draw_shards, make_teacher
from tests.api.world import dumped

BROKEN = 5  # number of the image that cannot be decoded


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled shards of 40, 40 and 17 samples, one of which cannot be decoded, and a teacher."""
    folder = tmp_path_factory.mktemp("material")
    draw_shards(folder, 97, broken=[BROKEN])
    make_teacher(folder)
    return folder


@pytest.fixture(scope="module")
def plain(material: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with a store of plain views."""
    return dumped(material, tmp_path_factory.mktemp("plain"), VIEWS)


@pytest.fixture(scope="module")
def mixed(material: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with a store of mixed views."""
    return dumped(material, tmp_path_factory.mktemp("mixed"), MIXED)
