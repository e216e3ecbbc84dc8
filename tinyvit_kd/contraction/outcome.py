"""What a search leaves: a table, a card that says how it was found, and recipes of the winners."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.config.yaml_text import yaml_text
from tinyvit_kd.contraction.candidate_run import student_of
from tinyvit_kd.contraction.front import Standing, standings
from tinyvit_kd.contraction.limits import in_words
from tinyvit_kd.contraction.means import mean_of
from tinyvit_kd.contraction.records import Result
from tinyvit_kd.contraction.results_folder import LARGEST
from tinyvit_kd.contraction.rounds import Outcome, RoundRecord, to_json
from tinyvit_kd.contraction.search import Rules
from tinyvit_kd.contraction.search_files import RECIPE, card_path, rounds_path, winner_output, winner_path
from tinyvit_kd.runtime.files import atomic_create, read_small_json, write_json
from tinyvit_kd.runtime.machine import machine, versions
from tinyvit_kd.runtime.wording import binary_size, counted, table


def describe_limits(limits: Mapping[str, float]) -> str:
    """Limits in words: ``at most 5,500,000 parameters, at least 900 images per second``."""
    return ", ".join(in_words(name, value) for name, value in limits.items())


def write_rounds(folder: Path, outcome: Outcome) -> bool:
    """Write the rounds that are finished, unless another process has written more; returns whether that was done."""
    path = rounds_path(folder)
    if len(read_small_json(path, LARGEST).get("rounds", ())) > len(outcome.rounds):
        return False
    write_json(path, to_json(outcome))
    return True


def winners(outcome: Outcome) -> list[Result]:
    """The results of the winners, best first."""
    by_name = {result.candidate.shape.name: result for result in outcome.rounds[-1].results}
    return [by_name[name] for name in outcome.winners]


def outcome_table(outcome: Outcome, rules: Rules) -> str:
    """The base, and of each round those that came to its end, best first; ``*``: a base of the next round, or a winner.

    Cross-entropy is given with its standard error.
    """
    rows: list[tuple[str, ...]] = [
        ("", "", "parameters", "M madds", "images/s", "cross-entropy", "agreement", "top-1", "shape"),
        _row("base", " ", outcome.base, _standing(outcome.base, rules)),
    ]
    for record in outcome.rounds:
        by_name = {result.candidate.shape.name: result for result in record.results}
        chosen = record.next_bases or outcome.winners
        for place, standing in enumerate(ranked(record, rules)):
            result, mark = by_name[standing.name], "*" if standing.name in chosen else " "
            rows.append(_row(f"round {record.number}" if not place else "", mark, result, standing))
    return table(rows, right=(2, 3, 4, 5, 6, 7))


def ranked(record: RoundRecord, rules: Rules) -> list[Standing]:
    """Those that came to the end of a round, the best first."""
    return standings([result for result in record.results if result.out is None], rules.limited)


def _standing_winners(outcome: Outcome, rules: Rules) -> list[tuple[Result, Standing]]:
    """Winners, and how they stand in the last round, whose seeds tell more of errors than their own."""
    by_name = {standing.name: standing for standing in ranked(outcome.rounds[-1], rules)}
    return [(result, by_name[result.candidate.shape.name]) for result in winners(outcome)]


def _standing(result: Result, rules: Rules) -> Standing | None:
    return standings([result], rules.limited)[0] if result.scores else None


def _row(first: str, mark: str, result: Result, standing: Standing | None) -> tuple[str, ...]:
    agreement, top1 = (mean_of(result, name) for name in ("agreement", "top1"))
    return (
        first,
        mark,
        f"{result.costs.parameters:,}",
        f"{result.costs.multiply_adds / 1e6:,.1f}",
        "–" if result.timing is None else f"{result.timing.images_per_second:,.0f}",
        "–" if standing is None else f"{standing.loss:.4f} ± {standing.error:.4f}",
        "–" if agreement is None else f"{agreement.value:.2f} %",
        "–" if top1 is None else f"{top1.value:.2f} %",
        result.candidate.shape.name,
    )


def write_outcome(folder: Path, outcome: Outcome, config: ContractConfig, rules: Rules, drop_path_rate: float) -> None:
    """Write card and winners' recipes."""
    day = time.strftime("%Y-%m-%d")
    for place, (result, standing) in enumerate(_standing_winners(outcome, rules), 1):
        student = student_of(result.candidate.shape, config, drop_path_rate)
        steps = rules.halving.ends[-1]
        head = winner_comment(result, standing, f"{day} ({RECIPE} beside this file), place {place}", steps)
        tree = config.pretrain_tree(student, winner_output(config, place))
        first = {name: tree[name] for name in ("stage", "output", "shards", "store", "student")}
        # Whoever comes later leaves it as it was found, or has been changed since.
        atomic_create(winner_path(folder, place), f"{head}{yaml_text(first | tree)}".encode())
    atomic_create(card_path(folder), card_text(outcome, config, rules, day).encode())


def winner_comment(result: Result, standing: Standing, found: str, steps: int) -> str:
    """How a winner was found, in lines that begin with #.

    Args:
        found: when and where.
        steps: optimiser steps of its brief training.
    """
    costs = result.costs
    return (
        f"# Found by tinyvit-kd contract on {found}: {costs.parameters:,} parameters,\n"
        f"# {costs.multiply_adds:,} multiply-adds; cross-entropy to the teacher {standing.loss:.4f} ± "
        f"{standing.error:.4f} after {counted(steps, 'step')}.\n"
    )


def card_text(outcome: Outcome, config: ContractConfig, rules: Rules, day: str) -> str:
    """The card, in Markdown: how the winners were found."""
    return "\n".join(
        [
            "# Contraction",
            "",
            f"Found on {day} by `tinyvit-kd contract`, by progressive contraction (arXiv 2207.10666, section 3.2).",
            f"Target: {describe_limits(outcome.targets)}.",
            "",
            *_told_winners(outcome, rules),
            "## How",
            "",
            *_told_how(outcome, config, rules),
            "",
            "## Rounds",
            "",
            *(line for record in outcome.rounds for line in _told_round(record, outcome, rules)),
            "## Space",
            "",
            "```yaml",
            yaml_text(_own_space(outcome, config)).rstrip(),
            "```",
            "",
            "## Where",
            "",
            *_told_machine(),
            "",
        ]
    )


def _told_winners(outcome: Outcome, rules: Rules) -> list[str]:
    lines: list[str] = []
    for place, (result, standing) in enumerate(_standing_winners(outcome, rules), 1):
        lines += [
            f"## Winner {place}: `{standing.name}`",
            "",
            f"{result.costs.parameters:,} parameters, {result.costs.multiply_adds:,} multiply-adds, "
            f"{binary_size(result.costs.memory_bytes)} of memory for one image{_told_rate(result)}. "
            f"Cross-entropy {standing.loss:.4f} ± {standing.error:.4f}{_told_percentages(result)}"
            f"{told_diverged(result, rules)}. "
            f"Recipe: `{winner_path(Path(), place)}`.",
            "",
            "Lineage:",
            "",
            *(
                f"* {'base' if not number else f'round {number}'}: `{each.candidate.shape.name}`"
                f"{' by ' + ', '.join(each.candidate.moves) if each.candidate.moves else ''}"
                for number, each in outcome.lineage(standing.name)
            ),
            "",
        ]
    return lines


def told_diverged(result: Result, rules: Rules) -> str:
    """How many of a candidate's further seeds diverged, in words that go on from others; nothing where none did."""
    if not result.diverged:
        return ""
    return f"; {result.diverged} of {counted(rules.seeds - 1, 'further seed')} diverged"


def _told_rate(result: Result) -> str:
    if result.timing is None:
        return ""
    return f", {result.timing.images_per_second:,.0f} images/s ({result.timing.how}, {result.timing.machine})"


def _told_percentages(result: Result) -> str:
    told = {"agreement with the teacher": mean_of(result, "agreement"), "top-1": mean_of(result, "top1")}
    return "".join(f", {name} {mean.value:.2f} ± {mean.error:.2f} %" for name, mean in told.items() if mean is not None)


def _told_how(outcome: Outcome, config: ContractConfig, rules: Rules) -> list[str]:
    ends = ", ".join(f"{end:,}" for end in rules.halving.ends)
    # Those that were too slow were timed, and not trained.
    trained = [sum(bool(each.scores) for each in record.results) for record in outcome.rounds]
    weights = "slices of their base's weights" if config.proxy.inherit else "random weights"
    samples = winners(outcome)[0].scores[-1].samples
    return [
        f"* {counted(rules.rounds, 'round')}, {counted(rules.bases, 'base')} each; "
        f"{sum(trained):,} candidates were trained, for about {sum(map(rules.steps, trained)):,} optimiser steps.",
        f"* Candidates begin with {weights}, and are trained from the store; the better ones up to {ends} steps, of "
        f"which one in {rules.halving.reduction:g} goes on; {counted(rules.finalists, 'finalist')} with "
        f"{counted(rules.seeds, 'seed')}.",
        f"* Scored on {samples:,} held-out samples, and ranked by cross-entropy to the teacher; ± is the standard "
        "error over samples and, of the cross-entropy, seeds.",
        "* Two are tied if they differ by no more than twice the standard error of their difference. All are scored on "
        "the same samples, so it is mostly smaller than their own errors suggest; where results/*.losses.npy are "
        "missing, it is reckoned from these."
        + (" With one seed, it says nothing of what another seed would change." if rules.seeds == 1 else ""),
    ]


def _told_round(record: RoundRecord, outcome: Outcome, rules: Rules) -> list[str]:
    left = sum(result.out is not None for result in record.results)
    tied = [f"`{one}` and `{other}`" for one, other in record.ties]
    chosen = record.next_bases or outcome.winners
    return [
        f"### Round {record.number}: {describe_limits(record.limits)}",
        "",
        f"{counted(len(record.results), 'candidate')} from {counted(len(record.bases), 'base')}; {left} of them left "
        "on the way.",
        *([f"Tied: {'; '.join(tied)}."] if tied else []),
        "",
        "| | parameters | multiply-adds | cross-entropy | |",
        "|---|---|---|---|---|",
        *_rows(record, ranked(record, rules), chosen),
        "",
    ]


def _rows(record: RoundRecord, found: Sequence[Standing], chosen: Sequence[str]) -> list[str]:
    by_name = {result.candidate.shape.name: result for result in record.results}
    return [
        f"| `{standing.name}` | {by_name[standing.name].costs.parameters:,} | "
        f"{by_name[standing.name].costs.multiply_adds:,} | {standing.loss:.4f} ± {standing.error:.4f} | "
        f"{'goes on' if standing.name in chosen else 'on the front' if standing.name in record.front else ''} |"
        for standing in found
    ]


def _own_space(outcome: Outcome, config: ContractConfig) -> dict[str, Any]:
    family = outcome.base.candidate.shape.family
    space: dict[str, Any] = config.space.model_dump(mode="json")[family]
    return {family: space}


def _told_machine() -> list[str]:
    facts = machine()
    gpus = ", ".join(each["name"] for each in facts["gpus"])
    return [
        f"* {facts['cpu']}, {counted(facts['cores'], 'core')}{f'; {gpus}' if gpus else ''}",
        f"* {', '.join(f'{name} {version}' for name, version in versions().items())}",
    ]
