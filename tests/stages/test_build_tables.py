"""``shards build`` from Parquet and Arrow files, and from folders as Hugging Face's ``datasets`` writes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.data.source_trees import write_tree
from tests.data.tables import IMAGES, LABELS, NAMES, hub_schema, hub_table, pa, save_to_disk, write_parquet
from tests.stages.built import build, built, labels_by_image, refused
from tinyvit_kd.data.building.unpacking import Unpacked
from tinyvit_kd.errors import ShardError


def expected(chosen: Sequence[int]) -> dict[bytes, int]:
    return {IMAGES[number]: LABELS[number] for number in chosen}


def classes_in(folder: Path) -> list[str]:
    return (folder / "classes.txt").read_text().splitlines()


def test_parquet_holds_images_and_says_its_classes(tmp_path: Path, command_line: CommandLine) -> None:
    source = write_parquet(tmp_path / "all.parquet", hub_table(range(7)))
    out = tmp_path / "out"
    build(command_line, source, out, "--samples-per-shard", "2")
    assert labels_by_image(out) == expected(range(7))
    assert classes_in(out) == NAMES
    assert {sample.suffix for sample in built(out).values()} == {"jpg"}
    assert {sample.said["filename"] for sample in built(out).values()} >= {"1.jpg", "all-000000002"}
    assert not list(out.glob(".unpacked-*"))
    assert f"classes    {len(NAMES)} (classes.txt)" in command_line("shards", "info", out).out
    before = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    (out / "train-000002.tar").unlink()
    (out / ".unpacked-old").mkdir()
    build(command_line, source, out, "--samples-per-shard", "2")
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == before
    assert not list(out.glob(".unpacked-*"))


def test_a_folder_that_was_saved_to_disk_is_read_in_place(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save_to_disk(tmp_path / "saved", range(7))
    (source / "cache-1234.arrow").write_bytes(b"not listed")
    monkeypatch.setattr("tinyvit_kd.data.building.unpacking.tempfile", None)  # nothing is unpacked
    build(command_line, source, tmp_path / "out", "--samples-per-shard", "3")
    assert labels_by_image(tmp_path / "out") == expected(range(7))
    assert classes_in(tmp_path / "out") == NAMES


@pytest.mark.parametrize("compression", ["lz4", None])
def test_one_arrow_file_with_a_footer_is_a_source(
    compression: str | None, tmp_path: Path, command_line: CommandLine
) -> None:
    table, path = hub_table(range(7)), tmp_path / "all.arrow"
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, options=options) as writer:
        writer.write_table(table)
    build(command_line, path, tmp_path / "out")
    assert labels_by_image(tmp_path / "out") == expected(range(7))


def test_splits_of_a_saved_data_set_are_chosen_or_all_built(tmp_path: Path, command_line: CommandLine) -> None:
    source = tmp_path / "saved"
    save_to_disk(source / "train", range(4))
    save_to_disk(source / "validation", range(4, 7), files=1)
    (source / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    out = tmp_path / "out"
    build(command_line, source, out)
    build(command_line, source, out, "--split", "val")
    assert labels_by_image(out) == expected(range(4))
    assert labels_by_image(out, "val") == expected(range(4, 7))
    build(command_line, source, tmp_path / "all", "--split-from-folders")
    assert labels_by_image(tmp_path / "all", "validation") == expected(range(4, 7))
    assert "one of train, validation" in refused(command_line, source, out, "--split", "extra")
    build(command_line, source, out, "--split", "extra", "--source-split", "validation")
    assert labels_by_image(out, "extra") == expected(range(4, 7))


def test_a_folder_as_the_hub_has_it_is_a_source(tmp_path: Path, command_line: CommandLine) -> None:
    source = tmp_path / "hub"
    write_parquet(source / "data" / "train-00000-of-00002.parquet", hub_table(range(2)))
    write_parquet(source / "data" / "train-00001-of-00002-0123456789abcdef.parquet", hub_table(range(2, 5)))
    write_parquet(source / "data" / "test-00000-of-00001.parquet", hub_table([5, 6]))
    (source / "README.md").write_text("card")
    build(command_line, source, tmp_path / "out")
    assert labels_by_image(tmp_path / "out") == expected(range(5))
    converted = tmp_path / "converted"
    write_parquet(converted / "default" / "train" / "0000.parquet", hub_table(range(5)))
    build(command_line, converted, tmp_path / "out2")
    assert labels_by_image(tmp_path / "out2") == expected(range(5))
    write_parquet(converted / "other" / "train" / "0000.parquet", hub_table(range(5)))
    assert "splits of the same name" in refused(command_line, converted, tmp_path / "out3")


def test_parts_of_a_split_that_are_missing_are_named(tmp_path: Path, command_line: CommandLine) -> None:
    data, out = tmp_path / "hub" / "data", tmp_path / "out"
    part = write_parquet(data / "train-00000-of-00003.parquet", hub_table(range(2)))
    write_parquet(data / "train-00002-of-00003-0123456789abcdef.parquet", hub_table(range(2, 4)))
    write_parquet(data / "test-00000-of-00001.parquet", hub_table([5, 6]))
    told = refused(command_line, tmp_path / "hub", out)
    assert "files of a split are missing" in told
    assert "Found: 2 of 3; no train-00001-of-00003.parquet. " in told
    assert "are missing" in refused(command_line, tmp_path / "hub", out, "--split-from-folders")
    build(command_line, tmp_path / "hub", tmp_path / "other", "--split", "test")
    from_one = tmp_path / "from one"
    for number in (1, 2):
        write_parquet(from_one / f"train-0000{number}-of-00002.parquet", hub_table([number]))
    build(command_line, from_one, tmp_path / "both")
    build(command_line, part, tmp_path / "alone")
    assert labels_by_image(tmp_path / "alone") == expected(range(2))
    write_parquet(data / "train-00001-of-00003.parquet", hub_table(range(4, 5)))
    write_parquet(data / "train-00002-of-00003-abcdef0123456789.parquet", hub_table(range(2, 4)))
    assert "several versions" in refused(command_line, tmp_path / "hub", out)
    write_parquet(data / "train-00002-of-00003-abcdef0123456789.parquet", hub_table(range(2, 4))).unlink()
    build(command_line, tmp_path / "hub", out)
    assert labels_by_image(out) == expected(range(5))


def test_parquet_may_name_files(tmp_path: Path, command_line: CommandLine) -> None:
    write_tree(tmp_path / "images", ["a.jpg", "b.jpg"])
    table = pa.table({"file": ["images/a.jpg", "images/b.jpg"], "class": ["cat", "dog"], "key": ["x.y", "z"]})
    build(command_line, write_parquet(tmp_path / "list.parquet", table), tmp_path / "out")
    found = built(tmp_path / "out")
    assert {key: sample.label for key, sample in found.items()} == {"x_y": 0, "z": 1}
    assert found["z"].image == (tmp_path / "images" / "b.jpg").read_bytes()


def test_several_columns_of_classes_have_to_be_told_apart(tmp_path: Path, command_line: CommandLine) -> None:
    table = hub_table(range(3)).append_column("fine", pa.array([2, 2, 2])).rename_columns(["image", "coarse", "fine"])
    source = write_parquet(
        tmp_path / "all.parquet", table.replace_schema_metadata(hub_schema("coarse", "fine").metadata)
    )
    told = refused(command_line, source, tmp_path / "out")
    assert "image (struct<bytes: binary, path: string>), coarse (int64), fine (int64)" in told
    build(command_line, source, tmp_path / "out", "--label-column", "fine")
    assert set(labels_by_image(tmp_path / "out").values()) == {2}


def test_what_a_table_lacks_is_named(tmp_path: Path, command_line: CommandLine) -> None:
    out = tmp_path / "out"

    def told(table: Any, *options: str) -> str:
        return refused(command_line, write_parquet(tmp_path / "a.parquet", table), out, *options)

    no_images = told(pa.table({"width": [3], "label": [0]}))
    assert "hold images or their paths" in no_images
    assert "Found: the columns width (int64), label (int64). " in no_images
    unlabelled = told(hub_table(range(2)).set_column(1, "label", pa.array([0, -1])))
    assert "1 of 2: 1.jpg" in unlabelled
    assert "--unlabelled" in unlabelled
    too_high = hub_table(range(2)).set_column(1, "label", pa.array([0, 3])).cast(hub_schema("label"))
    assert "Found: 3. Expected: 0 to 2" in told(too_high)
    twice = pa.Table.from_arrays([pa.array(["a.jpg"]), pa.array([0]), pa.array([1])], ["path", "label", "label"])
    assert "Found: 2 columns label. " in told(twice)
    (tmp_path / "b.parquet").write_bytes(b"PAR1 torn")
    assert "cannot be read" in refused(command_line, tmp_path / "b.parquet", out)
    saved = save_to_disk(tmp_path / "saved", range(4))
    (saved / "data-00001-of-00002.arrow").unlink()
    assert "data-00001-of-00002.arrow is missing" in refused(command_line, saved, out)
    chosen = save_to_disk(tmp_path / "chosen", range(4), _indices_data_files=[{"filename": "indices.arrow"}])
    assert "flatten_indices" in refused(command_line, chosen, out)
    (saved / "state.json").write_text("torn")
    assert "no _data_files" in refused(command_line, saved, out)


def test_rows_without_an_image_are_left_out_and_counted(tmp_path: Path, command_line: CommandLine) -> None:
    rows = [{"bytes": IMAGES[0], "path": None}, {"bytes": None, "path": None}]
    table = pa.table({"image": rows, "label": [0, 1]}, schema=hub_schema("label"))
    ended = build(command_line, write_parquet(tmp_path / "a.parquet", table), tmp_path / "out")
    assert json.loads(ended.out.splitlines()[-1])["left_out"] == {"row_without_image": 1}


def test_a_table_that_changes_after_it_was_listed_is_named(tmp_path: Path) -> None:
    source = write_parquet(tmp_path / "a.parquet", hub_table(range(3)))
    rows, sizes = np.array([0, 2]), np.array([len(IMAGES[0]), len(IMAGES[2])])
    Unpacked(tmp_path, {(source, "image"): (rows, sizes)}).fill()
    assert (tmp_path / "0.images").read_bytes() == IMAGES[0] + IMAGES[2]
    with pytest.raises(ShardError, match="row 3"):
        Unpacked(tmp_path, {(source, "image"): (rows, sizes + np.array([0, 1]))}).fill()


def test_without_pyarrow_its_extra_is_named(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    assert "tinyvit_kd[parquet]" in refused(command_line, tmp_path / "a.parquet", tmp_path / "out")
