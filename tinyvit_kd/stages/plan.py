"""``plan``: what recipes will take together, what limits them, and everything that can be found wrong beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.planning.chain import Planned, load_recipes
from tinyvit_kd.planning.context import Assumptions
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.given import PerStage, per_stage, rates, require_stages, samples_per_stage
from tinyvit_kd.planning.hours import Hours, Machine, hours_of
from tinyvit_kd.planning.images import GivenImages
from tinyvit_kd.planning.measuring.rates import MeasuredRates, measure
from tinyvit_kd.planning.plan import Plan, make_plan
from tinyvit_kd.planning.plan_table import describe_plan
from tinyvit_kd.planning.stage_plan import StagePlan
from tinyvit_kd.runtime.heartbeat import saying

FORMAT_VERSION = 1


def plan(
    recipes: Iterable[Path],
    overrides: Iterable[str] = (),
    *,
    samples: Iterable[str] = (),
    bytes_per_image: Iterable[str] = (),
    samples_per_shard: int = 5000,
    given_rates: Iterable[str] = (),
    measured: bool = False,
    processes: int = 1,
    gpus: int | None = None,
    cores: int | None = None,
    elsewhere: bool = False,
) -> tuple[str, dict[str, Any], bool]:
    """Plan recipes of any stages together; nothing is written but temporary files of measurements.

    Args:
        overrides: as ``--set``, for all recipes with that section or, with ``STAGE:`` before them, for one.
        samples: numbers of samples of shards that are not there, as ``N`` or ``STAGE:N``.
        bytes_per_image: of these shards, likewise.
        given_rates: ``PART=NUMBER`` or ``STAGE:PART=NUMBER``; they take precedence over measured ones.
        measured: whether to measure rates on this machine.
        processes: of each run.
        gpus: as ``processes``, where each has a GPU; None: the machine's own GPUs or CPU.
        cores: for loading processes; None: one for each of them.
        elsewhere: whether the runs are to take place on another machine.

    Returns:
        the plan for people, the same as plain data, and whether nothing is wrong.

    Raises:
        ConfigError: an option is wrong.
    """
    by_part = rates(given_rates)
    images = GivenImages(samples_per_stage(samples), per_stage("--bytes-per-image", bytes_per_image), samples_per_shard)
    on_gpu = gpus is not None or (not elsewhere and torch.cuda.is_available())
    findings = Findings()
    with saying("planning"):
        planned = load_recipes(recipes, overrides, findings)
        if not findings.wrong:  # a recipe that cannot be read may be the one that is meant
            _require_stages(planned, by_part, images)
        made = make_plan(planned, Assumptions(images, gpus or processes, on_gpu, elsewhere), findings)
    found = measure(made) if measured else None
    hours: dict[str, Hours | None] = {}
    for stage in made.stages:
        known = {} if found is None else found.rates.get(stage.recipe, {})
        known = known | {part: rate for part, each in by_part.items() if (rate := each.of(stage.stage)) is not None}
        machine = Machine() if found is None else found.machines[stage.recipe]
        machine = machine if cores is None else replace(machine, cores=cores)
        hours[stage.recipe] = hours_of(stage, known, machine)
    text = describe_plan(made, hours, found)
    return text, _values(made, hours, found), not findings.wrong


def _require_stages(planned: Iterable[Planned], by_part: dict[str, PerStage], images: GivenImages) -> None:
    """Check that everything that was given for one stage is for a recipe of the plan."""
    stages = {each.stage for each in planned}
    for given in by_part.values():
        require_stages("--rate", given, stages)
    shown = stages | {"evaluate"}  # trainings are scored, too
    require_stages("--samples", images.samples, shown)
    require_stages("--bytes-per-image", images.bytes_per_image, shown)


def _values(made: Plan, hours: dict[str, Hours | None], found: MeasuredRates | None) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "processes": made.context.assumptions.processes,
        "stages": [_stage_values(stage, hours[stage.recipe]) for stage in made.stages],
        "rates": None if found is None else found.rates,
        "findings": [each.as_dict() for each in made.findings.found],
        "sound": not made.findings.wrong,
    }


def _stage_values(stage: StagePlan, hours: Hours | None) -> dict[str, Any]:
    values = asdict(stage)
    if stage.store is not None:
        values["store"]["bytes"] = stage.store.bytes
    if stage.memory is not None:
        values["memory"] |= {"of_network": stage.memory.of_network, "of_loading": stage.memory.of_loading}
    return values | {"hours": None if hours is None else hours.as_dict()}
