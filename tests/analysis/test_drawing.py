"""Texts fit their room, and letters that the font lacks are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.analysis.samples.drawing import Lettering
from tinyvit_kd.errors import ConfigError

LETTERING = Lettering()


def width_of(text: str) -> float:
    return LETTERING.font.getlength(text)


@given(st.text(max_size=15), st.integers(20, 80))
def test_a_fitted_text_is_no_wider_than_its_room(text: str, width: int) -> None:
    assert width_of(LETTERING.fit(text, width)) <= width


@given(st.text(st.sampled_from("ab cd-"), max_size=60), st.integers(30, 120), st.integers(1, 4))
def test_a_wrapped_text_keeps_to_its_lines_and_width(text: str, width: int, lines: int) -> None:
    wrapped = LETTERING.wrap(text, width, lines)
    assert len(wrapped) <= lines
    assert all(width_of(line) <= width for line in wrapped)


def test_a_text_with_room_stays_whole() -> None:
    assert LETTERING.wrap("golden retriever", 60, 3) == ["golden", "retriever"]
    assert LETTERING.fit("tench", 200) == "tench"


def test_letters_that_the_font_lacks_lose_their_accents_or_become_question_marks() -> None:
    lettering = Lettering()
    assert lettering.writable("Pérsian 猫") == "Persian ?"
    assert lettering.lacking == {"猫"}


def test_what_would_control_a_terminal_is_written_out() -> None:
    assert LETTERING.writable("a\nb\x1b[31m") == "a\\nb\\x1b[31m"


def test_a_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.ttf").write_text("no font")
    with pytest.raises(ConfigError, match="cannot read the font"):
        Lettering(path=tmp_path / "no.ttf").fit("a", 100)
