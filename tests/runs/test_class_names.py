"""Classes have names for people, and each has one of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.runs.class_names import class_names, names_of


def test_a_wordnet_id_is_called_by_its_first_name() -> None:
    assert class_names(["n01440764", "n02123045"]) == ["tench", "tabby"]


def test_classes_that_share_a_name_are_told_apart() -> None:
    names = names_of(load_class_list("imagenet"), 1000)
    assert len({name.casefold() for name in names}) == 1000
    assert names[0] == "tench"
    assert [name for name in names if name.startswith("crane")] == ["crane (n02012849)", "crane (n03126707)"]


def test_ids_that_are_words_already_stay_as_they_are() -> None:
    assert class_names(["cat", "dog, wild"]) == ["cat", "dog, wild"]


def test_names_of_the_list_count_before_those_of_wordnet() -> None:
    classes = ClassList("mine", ("n01440764", "n02123045"), (("Schleie, Tinca tinca",), ()))
    assert names_of(classes, 2) == ["Schleie", "tabby"]


def test_without_a_list_a_class_has_its_number() -> None:
    assert names_of(None, 2) == ["class 0", "class 1"]


@given(st.lists(st.text(min_size=1), unique=True, max_size=8))
def test_every_list_of_distinct_ids_has_as_many_names(ids: list[str]) -> None:
    assert len(class_names(ids)) == len(ids)
    assert all(class_names(ids))
