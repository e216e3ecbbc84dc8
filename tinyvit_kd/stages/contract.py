"""``contract``: finds the best student within limits, from a larger one (arXiv 2207.10666, section 3.2)."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from tinyvit_kd import __version__
from tinyvit_kd.analysis.jobs.run_folder import is_run_folder
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.candidate_run import CandidateRun, drop_path_rate_of
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.join_search import join_search
from tinyvit_kd.contraction.means import mean_of
from tinyvit_kd.contraction.outcome import outcome_table, winners, write_outcome, write_rounds
from tinyvit_kd.contraction.plan import Planner
from tinyvit_kd.contraction.proxy import Proxy, open_proxy
from tinyvit_kd.contraction.records import Candidate, Result
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.contraction.rounds import Outcome
from tinyvit_kd.contraction.search import Rules, rules_of
from tinyvit_kd.contraction.search_files import (
    own_log,
    page_path,
    search_folder,
    timings_folder,
    winner_path,
)
from tinyvit_kd.contraction.shared_search import SharedSearch
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.contraction.throughput import open_clock, timing_setting
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.student import student_spec
from tinyvit_kd.reports.contraction_page import write_contraction_page
from tinyvit_kd.runs.attempts import command_line
from tinyvit_kd.runs.first_weights import FirstWeights, read_first_weights
from tinyvit_kd.runs.identity import run_identity
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.lines import log_file, quiet_lines
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.wording import counted

_SECTIONS = ("space", "limits", "search", "throughput", "proxy")  # of a recipe, besides those of every training


def contract(config: ContractConfig, job: Job, part: tuple[int, int] = (1, 1)) -> dict[str, float]:
    """Search for the best students within limits, and write recipes that train them.

    Any number of processes may share a search through its folder, and each may join, die or come back at any moment.
    What they have made is there as files, from which all of them make the same decisions.

    Args:
        job: its processes work apart from each other, as those of other jobs do.
        part: (i, n) of n jobs; each begins with other candidates.

    Returns:
        figures of the winner.

    Raises:
        ConfigError: the student is of no known space, no shape keeps to the limits, or the folder belongs to another
            search.
        StoreError: a store is missing, incomplete, or too small to hold samples out.
        Preempted: a signal asked to stop; finished results are kept.
    """
    folder = search_folder(config)
    _require_own(folder)
    alone = Job(0, 1, job.device)
    with nullcontext() if job.is_main else quiet_lines():  # what is opened is told of once
        proxy = open_proxy(config, alone)
        weights = read_first_weights(config.student, proxy.data.classes, alone, proxy.num_classes)
    rules = rules_of(config)
    planner, drop_path_rate = _open_planner(config, alone, folder, proxy, weights)
    planner.require_reachable()
    join_search(folder, _identity(config, proxy, weights), _here(config, proxy), config)
    number, parts = part
    results = ResultsFolder(folder, first=(number - 1 + job.rank / job.world_size) / parts)
    title = f"contract, tinyvit_kd {__version__}, on {job.device.type}"
    with own_log(folder, results, part, job.rank) as log, log_file(log, title):
        base = planner.base.candidate
        run = CandidateRun(config, rules, proxy, alone, base, weights.initial, drop_path_rate, results)
        for outcome in SharedSearch(rules, job, planner, run, results).outcomes():
            if write_rounds(folder, outcome):
                with nullcontext() if job.is_main else quiet_lines():
                    write_contraction_page(folder, outcome, command_line())
        say(job, f"wrote {page_path(folder)}")
        _write(folder, outcome, config, rules, drop_path_rate, job)
        # All end with the last result, unless one trains what another has made meanwhile. Rank 0, which may keep the
        # job's store, waits for it: to its peers a store that is gone is a job that has failed.
        with saying("waiting for the job's other processes"):
            job.barrier()
    return _figures(outcome, rules)


def _require_own(folder: Path) -> None:
    if is_run_folder(folder):
        raise ConfigError(
            "this folder is that of a training",
            where="output",
            found=str(folder),
            fix="set output to a new folder",
        )


def _identity(config: ContractConfig, proxy: Proxy, weights: FirstWeights) -> dict[str, str]:
    """What of recipe and data must be the same for processes to share a search, as values by name."""
    own = {name: getattr(config, name).model_dump_json() for name in _SECTIONS}
    return proxy.identity | run_identity(config, proxy.num_classes, proxy.data.classes, weights) | own


def _here(config: ContractConfig, proxy: Proxy) -> dict[str, str]:
    """What of the machine must be the same, as values by name."""
    job, asked = proxy.data.job, config.runtime.precision
    timings = timing_setting(config, job, proxy.num_classes, proxy.image_size)
    return {
        "device": job.device.type,
        "training precision": resolve_precision(job.device, asked, trains=True),
        "scoring precision": resolve_precision(job.device, asked, trains=False),
    } | ({} if timings is None else {"timings": json.dumps(timings)})


def _open_planner(
    config: ContractConfig, alone: Job, folder: Path, proxy: Proxy, weights: FirstWeights
) -> tuple[Planner, float]:
    """What plans rounds from the recipe's student, and the stochastic depth of that."""
    sizes = {"num_classes": proxy.num_classes, "image_size": proxy.image_size}
    spec = student_spec(config.student, weights.card)
    base, costs = Candidate(shape_of(spec, **sizes)), partial(costs_of, **sizes)
    clock = open_clock(config, alone, folder=timings_folder(folder), **sizes)
    planner = Planner(config, Result(base, costs(base.shape)), costs, clock)
    return planner, drop_path_rate_of(spec, **sizes)


def _write(
    folder: Path, outcome: Outcome, config: ContractConfig, rules: Rules, drop_path_rate: float, job: Job
) -> None:
    write_outcome(folder, outcome, config, rules, drop_path_rate)
    say(job, outcome_table(outcome, rules))
    for place in range(1, len(outcome.winners) + 1):
        say(job, f"to train a winner: tinyvit-kd pretrain {winner_path(folder, place)}")
    missing = rules.winners - len(outcome.winners)
    if missing:
        say(job, f"{counted(missing, 'recipe')} fewer than search.winners asks for: the front has no more candidates")


def _figures(outcome: Outcome, rules: Rules) -> dict[str, float]:
    best = winners(outcome)[0]
    scores = {name: mean_of(best, name) for name in ("cross_entropy", "agreement", "top1")}
    found: dict[str, float] = {
        "rounds": rules.rounds,
        "candidates": sum(bool(result.scores) for record in outcome.rounds for result in record.results),
        "parameters": best.costs.parameters,
        "multiply_adds": best.costs.multiply_adds,
    }
    return found | {name: mean.value for name, mean in scores.items() if mean is not None}
