"""How far a search is, from its folder, at any time: nothing is written, and nothing has to be whole, or there."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.claims import Claim
from tinyvit_kd.contraction.halving import part_ends
from tinyvit_kd.contraction.result_names import TaskName, plan_name, planned_round, read_task_name, round_of
from tinyvit_kd.contraction.results_folder import LARGEST, all_claims, read_result, results_in
from tinyvit_kd.contraction.search_files import card_path, logs, page_path, recipe_path, rounds_path, winner_path
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.files import modified, read_small_json
from tinyvit_kd.runtime.wording import counted, duration

_SHOWN = 8  # processes that are named


@dataclass(frozen=True)
class Best:
    """The best candidate of a round.

    Attributes:
        number: of the round.
        part: of the training whose end it is scored at, from 1 on.
        cross_entropy: to the teacher's distribution, nats; the mean over its seeds. None: it cannot be read.
    """

    name: str
    number: int
    part: int
    cross_entropy: float | None


@dataclass(frozen=True)
class Worker:
    """A process that is at work on a search.

    Attributes:
        age: seconds since its last sign of life.
        tasks: candidates, plans or timings that it has in hand; none between them, and while it waits for others.
    """

    host: str
    process: int
    age: float
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class SearchStatus:
    """How far a search is. What is not known is None.

    Attributes:
        path: of its folder.
        state: ``finished``; ``running`` if a process is at work; ``killed`` if those that were are gone from this
            machine; ``silent``; ``unknown`` if nothing was ever there.
        message: what ended it.
        age: seconds since the last sign of life of any process.
        done, total: rounds.
        round: number of the one that is under way; 0: the base is being trained; None: none is.
        candidates: that this round trains.
        parts: of their training.
        scored: how many have come to the end of each part, or have diverged.
        repeated: trainings with further seeds that have ended.
        leader: the best of those that came furthest.
        best: of the last finished round.
        winners: names, best first; none until it has finished.
        recipes: of the winners.
        page: None until a round has finished.
        workers: processes that are at work.
        notes: what is wrong with its files.
    """

    path: str
    kind: str = field(default="search", init=False)
    stage: str = field(default="contract", init=False)
    state: str = "unknown"
    message: str | None = None
    age: float | None = None
    done: int = 0
    total: int | None = None
    round: int | None = None
    candidates: int | None = None
    parts: int | None = None
    scored: tuple[int, ...] = ()
    repeated: int = 0
    leader: Best | None = None
    best: Best | None = None
    winners: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    page: str | None = None
    workers: tuple[Worker, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""
        return asdict(self)

    def rows(self) -> Iterator[tuple[str, str]]:
        """What it tells, for people: names and texts."""
        yield "rounds", f"{self.done} of {self.total if self.total is not None else 'a number that is not known'}"
        if self.round is not None:
            yield ("the base" if self.round == 0 else f"round {self.round}"), self._told_round()
        if self.leader is not None:
            yield "leads there", _told(self.leader)
        if self.best is not None and not self.winners:
            yield "best so far", f"{_told(self.best)}, round {self.best.number}"
        for place, name in enumerate(self.winners):
            score = f"; {_told(self.best)}" if self.best is not None and self.best.name == name else f"; {name}"
            yield "winner" if place == 0 else f"winner {place + 1}", self.recipes[place] + score
        if self.page is not None:
            yield "page", self.page
        if self.workers:
            yield "at work", counted(len(self.workers), "process")
        for each in self.workers[:_SHOWN]:
            told = ", ".join(each.tasks) or "nothing in hand"
            yield f"  {each.host}, {each.process}", f"{told} (last sign {duration(each.age)} ago)"
        if len(self.workers) > _SHOWN:
            yield "", f"and {len(self.workers) - _SHOWN:,} more"

    def _told_round(self) -> str:
        told = [] if not self.round or self.candidates is None else [counted(self.candidates, "candidate")]
        ends = [f"part {part}: {done:,}" for part, done in enumerate(self.scored, 1)]
        if ends and self.parts is not None:
            ends[0] = f"part 1 of {self.parts}: {self.scored[0]:,}"
        if ends:
            told.append(f"scored after {', '.join(ends)}")
        if self.repeated:
            told.append(f"{counted(self.repeated, 'training')} with further seeds")
        return "; ".join(told) or "nothing is scored yet"


def search_status(location: str | Path, now: float) -> SearchStatus:
    """Look at the folder of a search.

    Args:
        now: Unix time, seconds.
    """
    folder, notes = Path(location), []
    config = None
    try:
        config = load_recipe(ContractConfig, recipe_path(folder))
    except ConfigError:
        notes.append("its recipe cannot be read")
    rounds = read_small_json(rounds_path(folder), LARGEST)
    finished = [each for each in rounds.get("rounds") or () if isinstance(each, dict)]
    winners = tuple(map(str, rounds.get("winners") or ()))
    names, claims = results_in(folder), all_claims(folder, now)
    tasks = [task for task in map(read_task_name, names) if task is not None]
    is_over = bool(winners) and card_path(folder).is_file()
    number = None if is_over else max([planned_round(name) or 0 for name in names], default=0)
    of_round = [task for task in tasks if task.number == number]
    if number and number <= len(finished):
        number, of_round = None, []  # the next one is not planned yet
    scored = Counter(task.part for task in of_round if not task.seed)
    return SearchStatus(
        str(location),
        state=_state(is_over, claims, names),
        age=_age(folder, claims, now),
        done=len(finished),
        total=None if config is None else config.search.rounds,
        round=number,
        candidates=_candidates(folder, number) if number else None,
        parts=None if config is None else len(_parts(config)),
        scored=tuple(scored[part] for part in range(1, max(scored, default=0) + 1)),
        repeated=sum(task.seed > 0 for task in of_round),
        leader=_leader(folder, of_round),
        best=_best(folder, finished, tasks),
        winners=winners,
        recipes=tuple(str(winner_path(folder, place)) for place in range(1, len(winners) + 1)),
        page=str(page_path(folder)) if page_path(folder).is_file() else None,
        workers=tuple(_workers(claims)),
        notes=tuple(notes),
    )


def _parts(config: ContractConfig) -> Sequence[int]:
    return part_ends(config.proxy.steps, config.proxy.rungs, config.proxy.reduction)


def _state(is_over: bool, claims: Sequence[Claim], names: Sequence[str]) -> str:
    if is_over:
        return "finished"
    if any(claim.is_held for claim in claims):
        return "running"
    if claims and all(claim.is_gone for claim in claims):
        return "killed"
    return "silent" if claims or names else "unknown"


def _age(folder: Path, claims: Sequence[Claim], now: float) -> float | None:
    """Seconds since the last sign of life, by the clock of this machine."""
    times = [modified(path) for path in (*logs(folder), recipe_path(folder), card_path(folder))]
    ages = [max(0.0, now - time) for time in times if time is not None]
    return min([*ages, *(claim.age for claim in claims)], default=None)


def _candidates(folder: Path, number: int) -> int | None:
    results = read_result(folder, plan_name(number)).get("results")
    return sum(not each.get("out") for each in results if isinstance(each, dict)) if isinstance(results, list) else None


def _workers(claims: Sequence[Claim]) -> Iterator[Worker]:
    by_process: dict[tuple[str, int], list[Claim]] = {}
    for claim in claims:
        if claim.is_held:
            by_process.setdefault((claim.host, claim.process), []).append(claim)
    for (host, process), own in sorted(by_process.items()):
        tasks = tuple(claim.name for claim in own if round_of(claim.name) is not None)  # others are of logs
        yield Worker(host, process, min(claim.age for claim in own), tasks)


def _leader(folder: Path, tasks: Sequence[TaskName]) -> Best | None:
    """The best of a round's candidates that came furthest."""
    furthest = max((task.part for task in tasks if task.number), default=0)
    found = [_scored(folder, [task]) for task in tasks if task.part == furthest and not task.seed]
    known = [each for each in found if each.cross_entropy is not None]
    return min(known, key=lambda each: each.cross_entropy or 0.0, default=None) if furthest else None


def _best(folder: Path, finished: Sequence[dict[str, Any]], tasks: Sequence[TaskName]) -> Best | None:
    """The best of the last finished round."""
    front = finished[-1].get("front") if finished else None
    if not front:
        return None
    own = [task for task in tasks if (task.number, task.shape) == (len(finished), front[0])]
    last = max((task.part for task in own), default=0)
    return (
        _scored(folder, [task for task in own if task.part == last]) if own else Best(front[0], len(finished), 0, None)
    )


def _scored(folder: Path, tasks: Sequence[TaskName]) -> Best:
    """A candidate at the end of a part, with all of these seeds."""
    values = []
    for task in tasks:
        value = (read_result(folder, task.name).get("score") or {}).get("cross_entropy")
        values += [value] if isinstance(value, float) else []
    first = tasks[0]
    return Best(first.shape, first.number, first.part, statistics.fmean(values) if values else None)


def _told(best: Best) -> str:
    score = "" if best.cross_entropy is None else f", cross-entropy {best.cross_entropy:.4f} after part {best.part}"
    return f"{best.name}{score}"
