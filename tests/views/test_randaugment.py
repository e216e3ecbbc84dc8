"""The grammar of RandAugment policies: a text means what it means to timm, or is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timm.data.auto_augment import rand_augment_transform

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.views.randaugment import parse_auto_augment

# timm read "inc0" as true until it was mended there; ours follows timm of today.
_TIMM_READS_INC0_AS_TRUE = rand_augment_transform("rand-inc0", {}).ops[4].name == "PosterizeIncreasing"

POLICIES = [
    "rand",
    "rand-m9-mstd0.5-inc1",
    pytest.param(
        "rand-m9-mstd0.5-inc0",
        marks=pytest.mark.skipif(_TIMM_READS_INC0_AS_TRUE, reason="this timm reads inc0 as inc1"),
    ),
    "rand-m6-n3-mstd0.5",
    "rand-mstd1-tweights",
    "rand-t3a",
    "rand-m9-t3aw-n4-p0.3",
    "rand-n3-m15-mmax20-mstd101",
    "rand-mmax0-p1",
]

REFUSED = {
    "another policy": "original-mstd0.5",
    "augmix": "augmix-m5-w4-d2",
    "empty": "",
    "unknown key": "rand-q9",
    "unknown set": "rand-tall",
    "no number": "rand-inc",
    "fraction where whole": "rand-m9.5",
    "two points": "rand-p0.5.5",
    "repeated": "rand-m9-m8",
    "sign": "rand-m-9",
    "probability": "rand-p2",
    "more than there are": "rand-n16-tweights",
    "spaces": "rand-m9 -n2",
}


@pytest.mark.parametrize("text", POLICIES)
def test_a_policy_has_the_same_meaning_as_in_timm(text: str) -> None:
    ours, theirs = parse_auto_augment(text), rand_augment_transform(text, {})
    operation = theirs.ops[0]
    assert ours.operations == tuple(each.name for each in theirs.ops)
    assert (ours.layers, ours.magnitude, ours.probability) == (
        theirs.num_layers,
        operation.magnitude,
        operation.prob,
    )
    assert ours.magnitude_std == operation.magnitude_std
    assert ours.magnitude_max == (operation.magnitude_max or 10)
    if ours.weights is None:
        assert theirs.choice_weights is None
    else:
        np.testing.assert_array_equal(np.array(ours.weights) / sum(ours.weights), theirs.choice_weights)


def test_a_huge_magnitude_std_is_uniform() -> None:
    assert parse_auto_augment("rand-mstd101").magnitude_std == math.inf


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_policy_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_auto_augment(text)
    assert caught.value.where.endswith(text)
    assert caught.value.expected


@given(st.text(alphabet="rand-mnpitc0123456789.w", max_size=20))
def test_any_text_is_a_policy_or_raises_a_config_error(text: str) -> None:
    try:
        parse_auto_augment("rand-" + text)
    except ConfigError:
        return
