"""What an exported file says of itself can be read again; what says something else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.networks import card
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.exporting.description import Description

NAMES = st.lists(st.text(), min_size=3, max_size=3)


@settings(max_examples=30)
@given(
    ids=st.none() | NAMES,
    names=st.none() | NAMES,
    text=st.text(),
    kind=st.sampled_from(["uint8", "normalized"]),
    mode=st.sampled_from(["center", "squash"]),
    crop=st.floats(0.01, 1),
)
def test_it_says_what_it_was_told(
    ids: list[str] | None, names: list[str] | None, text: str, kind: Any, mode: Any, crop: float
) -> None:
    own = card(3, class_name=None if ids is None else "own", class_ids=None if ids is None else tuple(ids))
    own = own.scored_in(EvalViewSpec(size=32, mode=mode, crop_pct=crop))
    said = Description(card=own, input_kind=kind, class_names=None if names is None else tuple(names), model_card=text)
    assert Description.from_texts(said.as_texts(), "a file") == said


def test_others_can_read_how_it_is_fed() -> None:
    texts = Description(card=card(5, class_ids=tuple("abcde"), class_name="few"), input_kind="uint8").as_texts()
    assert texts["input"] == "images [N, 3, 32, 32]: uint8, RGB, levels 0 to 255; normalised inside"
    assert texts["output"] == "logits [N, 5]: float32; softmax gives the classes' probabilities"
    assert json.loads(texts["mean"]) == [0.4, 0.5, 0.6]
    assert json.loads(texts["class_ids"]) == list("abcde")
    assert (texts["image_size"], texts["crop_mode"], texts["crop_pct"]) == ("32", "center", "0.875")


WRONG: dict[str, tuple[dict[str, str | None], str]] = {
    "nothing": ({"tinyvit_kd_card": None}, "does not say how images are fed"),
    "no JSON": ({"tinyvit_kd_card": "{"}, "makes no sense"),
    "another card": ({"tinyvit_kd_card": '{"coffee": 1}'}, "makes no sense"),
    "a list": ({"tinyvit_kd_card": "[]"}, "makes no sense"),
    "a later format": ({"tinyvit_kd_format": "2"}, "of which this version knows nothing"),
    "an unknown input": ({"tinyvit_kd_input": "sound"}, "of which this version knows nothing"),
    "too few names": ({"class_names": '["a"]'}, "1 names of 5"),
    "names that are none": ({"class_names": "5"}, "makes no sense"),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_refused(changes: dict[str, str | None], told: str) -> None:
    texts: dict[str, str | None] = {**Description(card=card(), input_kind="uint8").as_texts(), **changes}
    with pytest.raises(CheckpointError) as caught:
        Description.from_texts({name: text for name, text in texts.items() if text is not None}, "x.onnx")
    assert told in str(caught.value)
    assert "x.onnx" in str(caught.value)
