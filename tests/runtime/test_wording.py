"""Numbers and names in the words of messages."""

from __future__ import annotations

import pytest

from tinyvit_kd.runtime.wording import binary_size, printable, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (196 * 2**30, "196 GiB"),
        (1.2 * 2**40, "1.2 TiB"),
        (3000 * 2**50, "3,000 PiB"),
    ],
)
def test_a_size_is_told_in_its_largest_unit(count: float, text: str) -> None:
    assert binary_size(count) == text


def test_a_table_has_columns_of_one_width_and_no_blanks_at_its_ends() -> None:
    rows = [["name", "top-1"], ["student", "9.5"], ["a"]]
    assert table(rows, right=[1]) == "name     top-1\nstudent    9.5\na"
    assert table([]) == ""


def test_a_stranger_s_name_does_not_control_the_terminal() -> None:
    assert printable("a\x1b[2Jb\nc\ud800é") == r"a\x1b[2Jb\nc\ud800é"
    assert printable("a\x1b\nb", lines=True) == "a\\x1b\nb"
