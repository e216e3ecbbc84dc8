"""Recipes that are planned together: in which order they run, what feeds what, and whose field is overridden."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from tests.planning.plans import CONFIGS
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.planning.chain import Chain, Planned, load_recipes
from tinyvit_kd.planning.findings import Findings

DEMO = [CONFIGS / "demo" / f"{name}.yaml" for name in ("teacher", "dump", "pretrain", "finetune")]
LAPTOP = [CONFIGS / "laptop" / f"{name}.yaml" for name in ("dump", "pretrain", "finetune", "evaluate")]


def load(*paths: Path, overrides: tuple[str, ...] = ()) -> list[Planned]:
    findings = Findings()
    recipes = load_recipes(paths, overrides, findings)
    assert not findings.found
    return recipes


def names(chain: Chain) -> list[str]:
    return [Path(planned.path).stem for planned in chain.ordered]


@pytest.mark.parametrize("paths", permutations(DEMO), ids=lambda paths: "-".join(path.stem for path in paths))
def test_recipes_run_after_those_that_make_what_they_take_however_they_are_given(paths: tuple[Path, ...]) -> None:
    assert names(Chain.of(load(*paths))) == ["teacher", "dump", "pretrain", "finetune"]


def test_recipes_that_do_not_feed_each_other_run_by_stage() -> None:
    paths = [CONFIGS / "finetune" / "tiny_vit_5m_22kto1k.yaml", CONFIGS / "dump" / "convnext_xlarge_1k.yaml"]
    assert names(Chain.of(load(*paths))) == ["convnext_xlarge_1k", "tiny_vit_5m_22kto1k"]


def test_a_chain_knows_who_makes_a_store_a_run_folder_and_a_file_in_it() -> None:
    chain = Chain.of(load(*LAPTOP))
    makers = {path: chain.maker(path) for path in ("store", "./store/", "distilled", "distilled/model.safetensors")}
    assert [Path(each.path).stem for each in makers.values() if each] == ["dump", "dump", "pretrain", "pretrain"]
    assert chain.maker("elsewhere") is None


def test_recipes_that_start_from_each_other_are_still_ordered() -> None:
    (one, other) = load(
        CONFIGS / "finetune" / "tiny_vit_21m_384.yaml",
        CONFIGS / "finetune" / "tiny_vit_21m_512.yaml",
        overrides=(f"{CONFIGS / 'finetune' / 'tiny_vit_21m_384.yaml'}:student.init_from=runs/tiny_vit_21m_512",),
    )
    assert set(Chain.of([one, other]).ordered) == {one, other}


def test_an_override_is_for_all_recipes_with_its_section_or_for_one_stage() -> None:
    overrides = ("schedule.lanes=4", "pretrain:schedule.epochs=3", f"{LAPTOP[2]}:num_classes=7")
    recipes = {planned.stage: planned.config for planned in load(*LAPTOP, overrides=overrides)}
    assert (recipes["pretrain"].schedule.lanes, recipes["finetune"].schedule.lanes) == (4, 4)  # type: ignore[union-attr]
    assert (recipes["pretrain"].schedule.epochs, recipes["finetune"].schedule.epochs) == (3, 8)  # type: ignore[union-attr]
    assert recipes["finetune"].num_classes == 7  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["coffee.sort=black", "evaluate:schedule.epochs=3", "dump-logit:batch_size=3"])
def test_an_override_that_is_for_none_of_the_recipes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="for none of these recipes"):
        load_recipes(LAPTOP[:3], [text], Findings())


def test_mistakes_of_all_recipes_are_found_together(tmp_path: Path) -> None:
    (tmp_path / "no_stage.yaml").write_text("coffee: black\n")
    findings = Findings()
    overrides = ["optim.base_lr=-1", "pretrain:schedule.epochs=0"]
    paths = [tmp_path / "no_stage.yaml", tmp_path / "missing.yaml", *LAPTOP]
    recipes = load_recipes(paths, overrides, findings)
    assert [planned.stage for planned in recipes] == ["dump-logits", "evaluate"]
    assert [Path(each.recipe).stem for each in findings.wrong] == ["no_stage", "missing", "pretrain", "finetune"]
    assert "schedule.epochs" in findings.wrong[2].text
    assert "optim.base_lr" in findings.wrong[2].text
