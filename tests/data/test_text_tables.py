"""Lists as text: what is no row of cells is refused with its line, and nothing is swallowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit_kd.data.source_kinds.text_tables import text_table
from tinyvit_kd.errors import ShardError


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ShardError) as caught:
        list(text_table(path).rows)
    return str(caught.value)


def test_cells_are_what_lies_between_delimiters_or_quotes(tmp_path: Path) -> None:
    text = 'path,label,size\r\n\r\na.jpg,"big, bad ""wolf""",5" nail\r\nb.jpg,cat,\r\nc.jpg,dog\r\nd.jpg,dog,1,, \r\n'
    table = text_table(written(tmp_path, "a.csv", text))
    assert table.names == ["path", "label", "size"]
    assert list(table.rows) == [
        {"path": "a.jpg", "label": 'big, bad "wolf"', "size": '5" nail'},
        {"path": "b.jpg", "label": "cat", "size": ""},
        {"path": "c.jpg", "label": "dog"},
        {"path": "d.jpg", "label": "dog", "size": "1"},
    ]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "text",
    [
        'path,label\na.jpg,cat\nb.jpg,"dog\nc.jpg,cat\nd.jpg,cat\n',
        'path,label\na.jpg,cat\nb.jpg,"dog\nc.jpg,cat"\nd.jpg,cat\n',
        'path,label\n\nb.jpg,"dog\r\n\r\nc.jpg",cat\r\n',
        'path,label\na.jpg,cat\nb.jpg,"dog"s\n',
        'path,label\na.jpg,cat\nb.jpg,"dog',
    ],
    ids=["to the end", "to the next quote", "lines of Windows", "text behind it", "in the last line"],
)
def test_a_quote_that_swallows_rows_is_refused_with_its_line(text: str, suffix: str, tmp_path: Path) -> None:
    told = refusal(written(tmp_path, f"a.{suffix}", text.replace(",", "\t") if suffix == "tsv" else text))
    assert "has a quote at its beginning and no end in its line" in told
    assert f"a.{suffix}, line 3." in told
    assert "Parquet or JSON lines" in told


def test_a_row_with_cells_beyond_the_columns_is_refused_with_its_line(tmp_path: Path) -> None:
    told = refusal(written(tmp_path, "a.csv", "path,label\na.jpg,cat\nb.jpg,big, bad wolf\n"))
    assert "a.csv, line 3. Found: 3 cells, of which the last are 'big', ' bad wolf'. Expected: 2 cells" in told


def test_what_is_no_line_of_json_is_told_once(tmp_path: Path) -> None:
    told = refusal(written(tmp_path, "a.jsonl", '{"path": "a.jpg"}\n{"path":\n'))
    assert told.startswith("a line of a list is no JSON object")
    assert told.count("Where:") == 1
    (tmp_path / "b.jsonl").write_bytes(b'{"path": "\xff"}\n')
    assert "a JSON object in each line" in refusal(tmp_path / "b.jsonl")
