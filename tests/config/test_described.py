"""Every field says what it means and in which unit, and docs/RECIPES.md says the same."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tinyvit_kd.config.base import Section
from tinyvit_kd.config.describe import Entry, describe
from tinyvit_kd.config.recipes import STAGE_CONFIGS
from tinyvit_kd.config.recipes_page import COMMAND, PAGE, page

PURE_NUMBERS = {"seed", "weight", "ratio", "mlp_ratio", "mbconv_expand_ratio", "temperature", "mixup", "cutmix"}
PURE_NUMBERS |= {"base_lr", "warmup_lr", "min_lr", "weight_decay", "eps", "clip_grad"}
PURE_NUMBERS |= {"mbconv_expand_step", "lowest_mbconv_expand", "mlp_step", "lowest_mlp", "reduction", "head_scale"}


def all_entries(entries: tuple[Entry, ...]) -> Iterator[Entry]:
    for entry in entries:
        yield entry
        yield from all_entries(entry.entries)


ENTRIES = {
    f"{stage}: {entry.dotted}": entry
    for stage in STAGE_CONFIGS
    for entry in all_entries(describe(STAGE_CONFIGS[stage]))
}
KINDS = {*STAGE_CONFIGS.values(), *(entry.section for entry in ENTRIES.values() if entry.section)}
SECTIONS = sorted(KINDS, key=lambda section: section.__name__)  # one order in every process


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_a_field_says_what_it_means(entry: Entry) -> None:
    assert len(entry.meaning) > 8
    assert not entry.meaning.endswith(".")
    assert "\n" not in entry.meaning


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_a_section_says_what_it_is_for(section: type[Section]) -> None:
    assert vars(section).get("__doc__")


def test_every_number_has_a_unit_unless_it_is_a_pure_number() -> None:
    numbers = {name: entry for name, entry in ENTRIES.items() if re.search(r"\b(number|integer)s?\b", entry.values)}
    assert {entry.name for entry in numbers.values() if entry.unit is None} == PURE_NUMBERS
    assert [name for name, entry in ENTRIES.items() if entry.unit is not None and name not in numbers] == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pretrain: stage", "only pretrain"),
        ("pretrain: loss.kind", "one of soft, hard, token"),
        ("pretrain: loss.alpha", "number > 0 and <= 1 or null"),
        ("pretrain: optim.betas", "list of numbers >= 0 and < 1 or null"),
        ("pretrain: normalize.mean", "list of 3 numbers"),
        ("pretrain: store.others", "list of sections"),
        ("pretrain: eval", "section or null"),
        ("pretrain: output", "path"),
        ("finetune: views.transform.args", "list"),
        ("contract: space.tiny_vit.windows", "list of integers >= 1"),
        ("finetune: views.transform.kwargs", "mapping"),
        ("dump-logits: store.topk", "integer >= 1 and <= 65535"),
        ("dump-logits: views.max_pixels", "integer >= 1"),
    ],
)
def test_allowed_values_are_said_in_words(name: str, values: str) -> None:
    assert ENTRIES[name].values == values


def test_the_output_of_a_search_is_not_said_to_be_a_url() -> None:
    assert "a path, or a URL" in ENTRIES["pretrain: output"].meaning
    assert "not a URL" in ENTRIES["contract: output"].meaning


def test_the_page_is_what_the_fields_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"docs/RECIPES.md is out of date: run `{COMMAND}`"
    assert COMMAND in page()[:400]


def test_links_in_the_page_lead_to_its_headings() -> None:
    headings = re.findall(r"^##+ (.*)$", page(), re.MULTILINE)
    anchors = [re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings]
    assert len(set(anchors)) == len(anchors)
    assert set(re.findall(r"\(#(.*?)\)", page())) == set(anchors)
