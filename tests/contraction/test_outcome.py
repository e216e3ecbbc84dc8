"""What a search leaves for people: a table, a card, and recipes that pretrain reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.contraction.made_searches import NARROW_AND_SHALLOW, NARROWEST, made_outcome
from tests.contraction.planted import contract_config
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import ContractConfig, PretrainConfig
from tinyvit_kd.contraction.means import Mean, mean_of
from tinyvit_kd.contraction.outcome import describe_limits, outcome_table, write_outcome, write_rounds
from tinyvit_kd.contraction.records import Score
from tinyvit_kd.contraction.search import rules_of

SEARCH = {"rounds": 2, "bases": 2, "winners": 2}


def config_of(folder: Path) -> ContractConfig:
    return contract_config(
        output=str(folder / "search"),
        search=SEARCH,
        student={"name": "tiny_vit_21m_224", "init_from": "somewhere", "grad_checkpointing": True},
        runtime={"workers": 3},
    )


def test_a_winner_is_a_recipe_of_pretrain_with_the_settings_of_the_search(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write_outcome(tmp_path, made_outcome(), config, rules_of(config), 0.2)
    winner = load_recipe(PretrainConfig, tmp_path / "winner.yaml")
    assert winner.student.tiny_vit is not None
    assert winner.student.tiny_vit.embed_dims == NARROWEST["widths"]
    assert winner.student.drop_path_rate == 0.2
    assert winner.student.grad_checkpointing
    assert winner.student.init_from is None
    assert winner.output == str(tmp_path / "search-winner")
    assert (winner.runtime, winner.optim, winner.schedule) == (config.runtime, config.optim, config.schedule)
    assert not (tmp_path / "winner-2.yaml").exists()  # the search has but one


def test_a_recipe_says_how_its_student_was_found(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write_outcome(tmp_path, made_outcome(), config, rules_of(config), 0.2)
    comment = [line for line in (tmp_path / "winner.yaml").read_text().splitlines() if line.startswith("#")]
    assert "16,000,000 parameters" in comment[0]
    assert "1.7100 ± 0.0" in comment[1]  # the mean of two seeds


def test_the_card_tells_target_lineage_ties_and_machine(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    write_outcome(tmp_path, made_outcome(), config, rules_of(config), 0.2)
    card = (tmp_path / "contract.md").read_text()
    assert "Target: at most 16,000,000 parameters, at least 1,300.0 images per second." in card
    assert "* round 2: `" + NARROWEST.name + "` by widths[2] 384 → 352" in card
    assert f"Tied: `{NARROWEST.name}` and `{NARROW_AND_SHALLOW.name}`." in card
    assert "### Round 1: at most 19,000,000 parameters, at least 950.0 images per second" in card
    assert "torch " in card


def test_the_card_tells_of_seeds_that_diverged(tmp_path: Path) -> None:
    config, outcome = config_of(tmp_path), made_outcome()
    outcome.rounds[-1].results[0].diverged = 1
    write_outcome(tmp_path, outcome, config, rules_of(config), 0.2)
    assert "; 1 of 1 further seed diverged. Recipe: `winner.yaml`." in (tmp_path / "contract.md").read_text()


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_card_says_what_the_error_of_a_difference_is_of(seeds: int, tmp_path: Path) -> None:
    config = contract_config(output=str(tmp_path / "search"), search=SEARCH, proxy={"seeds": seeds})
    write_outcome(tmp_path, made_outcome(), config, rules_of(config), 0.2)
    card = (tmp_path / "contract.md").read_text()
    assert "twice the standard error of their difference" in card
    assert ("says nothing of what another seed would change" in card) == (seeds == 1)


def test_figures_are_means_over_the_seeds_of_the_last_part() -> None:
    scores = [Score(2.0, 60.0, 50.0, {"agreement": 2.0, "top1": 4.0}, 100, 8, 0)]
    scores += [Score(3.0, 50.0, 40.0, {"agreement": 1.0, "top1": 2.0}, 100, 8, 1)]
    early = Score(9.0, 1.0, 1.0, {}, 100, 4, 0)
    result = made_outcome().rounds[-1].results[0]
    result.scores = [early, *scores]
    assert mean_of(result, "cross_entropy") == Mean(2.5, 0.0)
    assert mean_of(result, "agreement") == Mean(55.0, 1.5)
    assert mean_of(result, "top1") == Mean(45.0, 3.0)


def test_who_comes_later_takes_nothing_back(tmp_path: Path) -> None:
    """A process that replays a search has fewer rounds for a while, and finds what people have changed."""
    config, outcome = config_of(tmp_path), made_outcome()
    assert write_rounds(tmp_path, outcome)
    whole = (tmp_path / "rounds.json").read_bytes()
    assert not write_rounds(tmp_path, replace(outcome, rounds=outcome.rounds[:1], winners=()))
    assert (tmp_path / "rounds.json").read_bytes() == whole
    (tmp_path / "winner.yaml").write_text("changed: by hand\n")
    write_outcome(tmp_path, outcome, config, rules_of(config), 0.2)
    assert (tmp_path / "winner.yaml").read_text() == "changed: by hand\n"


def test_the_table_has_those_at_the_end_of_each_round_best_first_and_marks_the_chosen() -> None:
    outcome = made_outcome()
    lines = outcome_table(outcome, rules_of(contract_config(search=SEARCH))).splitlines()
    assert len(lines) == 1 + 1 + 2 + 2  # head, base, and of each round two that came to its end
    assert lines[1].startswith("base ")
    assert ["*" in line for line in lines[2:]] == [True, True, False, True]
    assert lines[4].startswith("round 2 ")  # of equal scores, the smaller one comes first
    assert lines[5].endswith(NARROWEST.name)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"parameters": 5.5e6}, "at most 5,500,000 parameters"),
        (
            {"multiply_adds": 1.3e9, "memory_mib": 40.0},
            "at most 1,300,000,000 multiply-adds per image, at most 40.0 MiB of memory",
        ),
        ({"images_per_second": 912.4}, "at least 912.4 images per second"),
    ],
)
def test_limits_are_told_in_words(limits: dict[str, float], words: str) -> None:
    assert describe_limits(limits) == words
