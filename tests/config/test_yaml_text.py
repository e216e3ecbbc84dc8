"""YAML says what it means: every key once, numbers as numbers, and no more than a recipe can need."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.config.test_load import GOOD, write
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.describe import Entry, describe
from tinyvit_kd.config.load import dump_yaml, load_recipe, read_yaml
from tinyvit_kd.config.recipes import STAGE_CONFIGS, FinetuneConfig, PretrainConfig
from tinyvit_kd.config.yaml_text import MAX_CHARACTERS, MAX_DEPTH, parse_yaml, yaml_text
from tinyvit_kd.errors import ConfigError

PROMPT = 2.0  # seconds


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("a: 1\nb: 2\na: 3", "a on lines 1 and 3", id="at the top"),
        pytest.param("a: {b: 1}\nc:\n  d: 1\n  e: 2\n  d: 1", "d on lines 3 and 5", id="in a section, of one value"),
        pytest.param("a: {b: 1, b: 2}", "b on line 1", id="in one line"),
        pytest.param("a:\n- b: 1\n  b: 2", "b on lines 2 and 3", id="in a list"),
        pytest.param("a: 1\n'a': 2\n\"a\": 3", "a on lines 1 and 2 and 3", id="in other quotes"),
        pytest.param("{? [a] : {c: 1, c: 2}}", "c on line 1", id="under a key that is a list"),
        pytest.param("1: a\n0x1: b", "1 on lines 1 and 2", id="of one value in two spellings"),
        pytest.param("a: 1\na: 2\nb:\n  c: 1\n  c: 2", "c on lines 4 and 5; a on lines 1 and 2", id="two keys"),
        pytest.param("x: &x {a: 1}\ny: {<<: *x, b: 1, b: 2}", "b on line 2", id="beside a merge"),
    ],
)
def test_a_key_that_is_given_twice_is_named_with_all_of_its_lines(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match="given twice") as caught:
        parse_yaml(text)
    assert caught.value.found == found


def test_a_section_that_is_given_twice_in_a_recipe_is_refused_with_file_and_lines(tmp_path: Path) -> None:
    recipe = write(tmp_path, GOOD + "train: {log_every: 5}\noptim: {base_lr: 1}\n")
    with pytest.raises(ConfigError, match="optim on lines 7 and 10") as caught:
        load_recipe(PretrainConfig, recipe)
    assert caught.value.where == str(recipe)


def test_a_key_that_is_given_twice_in_an_override_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="given twice") as caught:
        load_recipe(PretrainConfig, write(tmp_path, GOOD), ["optim={base_lr: 1, base_lr: 2}"])
    assert "--set optim=" in caught.value.where


def test_aliases_and_merges_work_and_what_is_given_beside_a_merge_goes_first() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\nd: {<<: *a, <<: {z: 4}}\ne: {<<: [*a, {y: 5, w: 6}]}"
    tree = parse_yaml(text)
    assert tree["b"] == {"x": 1, "y": 3}
    assert tree["c"] == tree["a"]
    assert tree["d"] == {"x": 1, "y": 2, "z": 4}
    assert tree["e"] == {"x": 1, "y": 2, "w": 6}


BOMB = "a0: &a0 [" + ", ".join(["x"] * 9) + "]\n"
BOMB += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40))
TEXTS = f"a: &a {'x' * 200_000}\nb: [{', '.join(['*a'] * 10_000)}]"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(BOMB, "more than 20,000 values, by line 5", id="aliases of aliases"),
        pytest.param(MERGES, "more than 20,000 values", id="merges of merges"),
        pytest.param(TEXTS, "more than 20,000 values", id="a long text again and again"),
        pytest.param("[1, " * 10_000 + "]" * 10_000, f"deeper than {MAX_DEPTH}, on line 1", id="lists in lists"),
        pytest.param("{a: " * 10_000, f"deeper than {MAX_DEPTH}", id="sections in sections, never closed"),
        pytest.param("- " * 10_000, f"deeper than {MAX_DEPTH}", id="dashes"),
        pytest.param("a: &a [*a]", "an alias on line 1", id="a list in itself"),
        pytest.param("a: &a {b: *a}", "an alias on line 1", id="a section in itself"),
        pytest.param("a: " + "1" * MAX_CHARACTERS, "characters", id="a huge value"),
        pytest.param("\n".join(f"k{n}: [{n}]" for n in range(15_000)), "more than 20,000 values", id="many values"),
    ],
)
def test_bombs_end_with_a_paragraph_at_once(tmp_path: Path, text: str, found: str) -> None:
    begin = time.process_time()
    with pytest.raises(ConfigError, match="holds more than a recipe can") as caught:
        read_yaml(write(tmp_path, text))
    assert found in caught.value.found
    assert str(tmp_path) in caught.value.where
    assert len(str(caught.value)) < 1000
    assert time.process_time() - begin < 10 * PROMPT  # a list of 15,000 values takes two seconds, a bomb none


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("a: 2001-99-99", "line 1: 2001-99-99, which is no timestamp", id="a date"),
        pytest.param("b: 1\na: " + "1" * 5000, "line 2: 1111", id="a number of 5,000 digits"),
        pytest.param("a: !!int x", "line 1: x, which is no int", id="a tag of another kind"),
        pytest.param("a: !!bool x", "line 1: x, which is no bool", id="a truth that is none"),
        pytest.param("a: [1", "line 1, column 6", id="a bracket that is not closed"),
        pytest.param("a: *b", "line 1, column 4", id="an alias of nothing"),
        pytest.param("a: \x00", "position 3", id="a character that no text has"),
        pytest.param("a: 1\n---\nb: 2", "another document (line 2", id="two documents"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_line(text: str, found: str) -> None:
    with pytest.raises(ConfigError, match="not valid YAML") as caught:
        parse_yaml(text)
    assert found in caught.value.found
    assert len(str(caught.value)) < 500


def test_a_file_that_is_no_text_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read_yaml(tmp_path / "recipe.yaml")


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_bytes(GOOD.strip().encode("utf-8-sig"))
    assert read_yaml(tmp_path / "recipe.yaml")["stage"] == "pretrain"


def test_a_thousand_mistakes_are_counted_and_the_first_named(tmp_path: Path) -> None:
    text = GOOD + "".join(f"wrong{number}: {'x' * 300}\n" for number in range(600))
    with pytest.raises(ConfigError, match="600 mistakes") as caught:
        load_recipe(PretrainConfig, write(tmp_path, text))
    assert "and 570 more" in caught.value.found
    with pytest.raises(ConfigError) as caught:
        load_recipe(PretrainConfig, write(tmp_path, GOOD), [f"optim.base_lr={'x' * 10_000}"])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 1e-3), ("1E-3", 1e-3), ("+1e3", 1e3), ("-2e+3", -2e3), ("1_0e1", 100.0), ("1e05", 1e5)],
        *[("5.0e4", 5e4), ("5.e-1", 0.5), (".5e3", 500.0), (".5e-3", 5e-4), ("-.5E1", -5.0), ("0e0", 0.0)],
        *[("'1e-3'", "1e-3"), ("e5", "e5"), ("1e", "1e"), ("1e-3x", "1e-3x"), ("0x1e3", 0x1E3), (".e3", ".e3")],
    ],
)
def test_an_exponent_makes_a_number_with_and_without_a_dot_or_a_sign(text: str, value: object) -> None:
    parsed = parse_yaml(text)
    assert (parsed, type(parsed)) == (value, type(value))


def numbers_in(entries: tuple[Entry, ...]) -> list[Entry]:
    """Every field of a recipe that takes one number, in whatever section."""
    own = [entry for entry in entries if "number" in entry.values.split() or "integer" in entry.values.split()]
    return own + [each for entry in entries for each in numbers_in(entry.entries)]


NUMBERS = {
    f"{stage}: {entry.dotted}": (kind, entry)
    for stage, kind in STAGE_CONFIGS.items()
    for entry in numbers_in(describe(kind))
}


def accepts(kind: type[Section], entry: Entry, value: Any) -> bool:
    """Whether a recipe's field takes a value, whatever else is wrong with the recipe."""
    path = [name.removesuffix("[]") for name in entry.path]
    for name, given_name in zip(reversed(path), reversed(entry.path), strict=True):
        value = {name: [value] if name != given_name else value}
    try:
        kind.model_validate(value)
    except ValidationError as error:
        refused = [[part for part in detail["loc"] if isinstance(part, str)] for detail in error.errors()]
        return path not in [each[: len(path)] for each in refused]
    return True


@pytest.mark.parametrize(("kind", "entry"), NUMBERS.values(), ids=NUMBERS)
def test_every_field_takes_a_number_however_it_is_spelt(kind: type[Section], entry: Entry) -> None:
    for short, long in (("1e-3", 0.001), ("2e0", 2.0), ("3E+1", 30.0)):
        assert parse_yaml(short) == long
        assert accepts(kind, entry, parse_yaml(short)) == accepts(kind, entry, long)
    assert any(accepts(kind, entry, parse_yaml(short)) for short in ("1e-3", "2e0", "3E+1", "64E0", "1e3"))


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
NUMBERLIKE = st.from_regex(r"[-+.0-9_eE]{1,8}", fullmatch=True)
TREES = st.recursive(st.one_of(SCALARS, NUMBERLIKE), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(tree=TREES)
def test_what_is_written_is_read_as_the_same_values(tree: Any) -> None:
    again = parse_yaml(yaml_text(tree))
    assert again == tree
    assert repr(again) == repr(tree)


def test_a_recipe_whose_texts_look_like_numbers_survives_being_written_out(tmp_path: Path) -> None:
    recipe = load_recipe(PretrainConfig, write(tmp_path, GOOD), ["store.path='1e3'", "shards.split='5e-4'"])
    assert load_recipe(PretrainConfig, write(tmp_path, dump_yaml(recipe))) == recipe


def test_a_recipe_that_names_no_stage_but_has_anothers_sections_is_told_apart(tmp_path: Path) -> None:
    text = GOOD.replace("stage: pretrain\n", "").replace("store: {path: store}", "views: {size: 32}")
    with pytest.raises(ConfigError, match="a recipe for finetune, not for pretrain") as caught:
        load_recipe(PretrainConfig, write(tmp_path, text))
    assert "as in recipes for finetune" in caught.value.found
    assert "tinyvit-kd finetune" in caught.value.fix


def test_a_recipe_of_pretrain_that_names_no_stage_is_not_taken_for_that_of_a_search(
    tmp_path: Path,
) -> None:
    text = GOOD.replace("stage: pretrain\n", "")
    with pytest.raises(ConfigError, match="a recipe for pretrain, not for finetune"):
        load_recipe(FinetuneConfig, write(tmp_path, text))
    with pytest.raises(ConfigError, match="a recipe for contract, not for finetune"):
        load_recipe(FinetuneConfig, write(tmp_path, f"{text}limits: {{parameters: 1.0e+6}}\n"))
