"""From recipes and assumptions to a plan: the numbers of each stage, and everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.errors import ConfigError, DiskSpaceError
from tinyvit_kd.planning.chain import Chain, Planned
from tinyvit_kd.planning.context import Assumptions, Context
from tinyvit_kd.planning.dump_plan import plan_dump
from tinyvit_kd.planning.evaluation_plan import plan_evaluation
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.stage_plan import StagePlan
from tinyvit_kd.planning.training_plan import plan_training
from tinyvit_kd.runtime.files import nearest_existing, require_free_space
from tinyvit_kd.runtime.wording import binary_size

_PLANNERS: dict[str, Callable[[Planned, Context], StagePlan]] = {
    "dump-logits": plan_dump,
    "pretrain": plan_training,
    "finetune": plan_training,
    "evaluate": plan_evaluation,
}


@dataclass(frozen=True)
class Plan:
    """What recipes will take together.

    Attributes:
        stages: in the order in which they run.
        context: what was found on the way.
    """

    stages: tuple[StagePlan, ...]
    context: Context

    @property
    def findings(self) -> Findings:
        """What the checks found."""
        return self.context.findings


def make_plan(recipes: Iterable[Planned], assumptions: Assumptions, findings: Findings) -> Plan:
    """Plan recipes together. Nothing is written, and no weights or images are read."""
    context = Context(assumptions, Chain.of(recipes), findings)
    _check_outputs(context)
    stages = tuple(_PLANNERS[planned.stage](planned, context) for planned in context.chain.ordered)
    if not assumptions.elsewhere:
        _check_folders(context)
        _check_disks(context)
    return Plan(stages, context)


def _check_outputs(context: Context) -> None:
    """Check that no two recipes write to the same place."""
    makers: dict[str, Planned] = {}
    for planned in context.chain.ordered:
        made = planned.makes
        if made is None:
            continue
        if made in makers:
            error = ConfigError(
                "two recipes write to the same place",
                where=made,
                found=f"{makers[made].path} and {planned.path}",
                fix="give each a folder of its own",
            )
            context.findings.refuse(planned.path, error)
        makers.setdefault(made, planned)


def _check_folders(context: Context) -> None:
    """Check that the folders which recipes write to are there or can be made."""
    for planned in context.chain.ordered:
        if planned.makes is None or "://" in planned.makes:
            continue
        nearest = nearest_existing(Path(planned.makes))
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            error = ConfigError(
                "a recipe writes to a folder that cannot be made",
                where=planned.makes,
                found=f"{nearest} is no folder" if not nearest.is_dir() else f"{nearest} cannot be written to",
                fix="choose another folder",
            )
            context.findings.refuse(planned.path, error)


def _check_disks(context: Context) -> None:
    """Check that what all recipes write to a disk together fits on it."""
    by_disk: dict[int, list[tuple[Planned, Path, int]]] = {}
    for planned, folder, size in context.needs:
        if "://" not in str(folder):
            by_disk.setdefault(nearest_existing(folder).stat().st_dev, []).append((planned, folder, size))
    for needs in by_disk.values():
        planned, folder, _ = max(needs, key=lambda need: need[2])
        parts = ", ".join(f"{binary_size(size)} in {each}" for _, each, size in needs)
        with context.findings.checking(planned.path):
            try:
                require_free_space(folder, sum(size for _, _, size in needs))
            except DiskSpaceError as error:
                raise error.with_context(where=parts, fix="free some space, or write to another disk") from None
