"""What is given to a plan: numbers for all stages, or for one."""

from __future__ import annotations

import pytest

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.planning.given import PARTS, per_stage, positive, rates, require_stages, samples_per_stage


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5),
        ("14.2M", 14.2e6),
        ("110k", 110e3),
        ("1_281_167", 1281167),
        ("20,000", 20000),
        ("1e6", 1e6),
        ("0.5", 0.5),
    ],
)
def test_a_number_may_be_written_as_people_write_it(text: str, number: float) -> None:
    assert positive("--samples", text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "0", "-3", "many", "1 M", "nan", "inf", "1e999", "3G"])
def test_what_is_no_number_above_zero_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--samples takes a number above zero"):
        positive("--samples", text)


def test_a_stage_has_its_own_number_or_that_of_all() -> None:
    given = per_stage("--samples", ["100", "finetune:7"])
    assert (given.of("finetune"), given.of("pretrain")) == (7, 100)
    assert per_stage("--samples", []).of("pretrain") is None


def test_an_unknown_stage_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="dump-logits, pretrain, finetune, evaluate"):
        per_stage("--samples", ["dump:3"])


def test_rates_are_of_a_part_and_perhaps_of_one_stage() -> None:
    given = rates(["teacher=2500", "student=900", "finetune:student=300"])
    assert given["teacher"].of("dump-logits") == 2500
    assert (given["student"].of("pretrain"), given["student"].of("finetune")) == (900, 300)


@pytest.mark.parametrize("text", ["teacher", "teachers=3", "=3", "finetune:student", "teacher=fast", "stage:views=3"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        rates([text])


def test_a_refused_rate_is_told_all_parts_with_their_units() -> None:
    with pytest.raises(ConfigError) as refused:
        rates(["gpu=3"])
    assert all(part in str(refused.value) and unit in str(refused.value) for part, unit in PARTS.items())


@pytest.mark.parametrize("text", ["0.4", "2.5", "pretrain:1.5", "0.0001k"])
def test_samples_are_whole(text: str) -> None:
    with pytest.raises(ConfigError, match="--samples takes a whole number"):
        samples_per_stage([text])


@pytest.mark.parametrize(("text", "number"), [("14.2M", 14_200_000), ("1.281167M", 1_281_167), ("3", 3)])
def test_whole_numbers_of_samples_may_have_a_point(text: str, number: int) -> None:
    assert round(samples_per_stage([text]).everywhere or 0) == number


def test_what_is_given_for_a_stage_that_is_not_planned_is_refused() -> None:
    given = per_stage("--rate", ["5", "pretrain:7"])
    require_stages("--rate", given, {"pretrain", "finetune"})
    with pytest.raises(ConfigError, match="none of these recipes") as caught:
        require_stages("--rate", given, {"dump-logits"})
    assert (caught.value.found, caught.value.expected) == ("pretrain:", "dump-logits:")
