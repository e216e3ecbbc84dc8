"""The benchmark of prototypes runs through, and turns images without changing a pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import prototypes
from benchmarks.tiny_world import draw_shards
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.views.decode import decode


def test_every_image_is_turned_by_quarters(tmp_path: Path) -> None:
    shards = ShardSet.load(draw_shards(tmp_path, 6), "train")
    prototypes._rotate(shards, tmp_path / "turned")
    for turns, name in enumerate(("0", "90", "180", "270")):
        found = sorted((tmp_path / "turned" / name).iterdir())
        assert len(found) == 6
        for index, path in enumerate(found):
            image = np.asarray(Image.open(path))
            assert np.array_equal(image, np.rot90(decoded(shards, index), turns))


def decoded(shards: ShardSet, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(decode(shards.reader().read(0, index), max_pixels=1 << 20))


@pytest.mark.slow
def test_it_can_be_rehearsed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prototypes.main(["--tiny", "--out", str(tmp_path)])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result == json.loads((tmp_path / "prototypes.json").read_text())
    assert set(result["outside_topk"]) == {"prototypes of rotations", "prototypes of labels", "logits"}
    assert {len(scores) for scores in result["top1"].values()} == {1}
    assert len(result["top1"]) == 7
