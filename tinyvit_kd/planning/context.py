"""What the plans of the stages share: what is assumed, what was found, and what other stages of the plan make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.errors import ShardError, StorageError, TinyVitKdError
from tinyvit_kd.models.model_location import is_there
from tinyvit_kd.planning.chain import Chain, Planned
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.images import GivenImages, Images
from tinyvit_kd.planning.images import is_there as are_there
from tinyvit_kd.planning.models import PlannedStudent, PlannedTeacher
from tinyvit_kd.planning.stores import StoreFacts
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.views.randaugment import parse_auto_augment


@dataclass(frozen=True)
class Assumptions:
    """What is given beside recipes.

    Attributes:
        processes: of each run.
        on_gpu: whether each process has a GPU.
        elsewhere: whether the runs take place on another machine, so that files and disks of this one say nothing.
    """

    images: GivenImages
    processes: int = 1
    on_gpu: bool = False
    elsewhere: bool = False


@dataclass(frozen=True)
class Task:
    """What a student is trained on.

    Attributes:
        classes: of the head; None where they are not known.
        pairs_seed: of pairs whose views are mixed; None if none are.
        stores: whose probabilities it learns; none of stage three.
        views: of the stores that are used; None: new views are made.
        labels: whether the loss uses them.
        both_heads: whether it trains a distillation head, too.
    """

    spec: ViewSpec
    num_classes: int
    classes: ClassList | None
    pairs_seed: int | None
    stores: tuple[StoreFacts, ...] = ()
    views: int | None = None
    labels: bool = True
    both_heads: bool = False


@dataclass
class Context:
    """What the plans of the stages share.

    Attributes:
        stores: what the recipes' dumps will make, by recipe.
        teachers: the networks of these dumps.
        found_images: the shards of recipes.
        tasks: what trainings learn from, by recipe.
        students: what the recipes' runs will make, by recipe.
        needs: bytes that each recipe needs in a folder.
    """

    assumptions: Assumptions
    chain: Chain
    findings: Findings
    stores: dict[Planned, StoreFacts] = field(default_factory=dict)
    teachers: dict[Planned, PlannedTeacher] = field(default_factory=dict)
    found_images: dict[Planned, Images] = field(default_factory=dict)
    tasks: dict[Planned, Task] = field(default_factory=dict)
    students: dict[Planned, PlannedStudent] = field(default_factory=dict)
    needs: list[tuple[Planned, Path, int]] = field(default_factory=list)

    @property
    def job(self) -> Job:
        """The processes of each run, for checks. Their first one would print lines, so this is the last."""
        processes = self.assumptions.processes
        return Job(max(1, processes - 1), processes, torch.device("cpu"))

    def precision(self, runtime: RuntimeConfig, *, trains: bool) -> str:
        """The precision of a network there."""
        device = torch.device("cuda" if self.assumptions.on_gpu and runtime.device != "cpu" else "cpu")
        return resolve_precision(device, runtime.precision, trains=trains)

    def images(self, planned: Planned, config: ShardsConfig, *, scored: bool = False) -> Images | None:
        """The shards of a section of a recipe; None if they are not known, which is a finding.

        Args:
            scored: whether a training is scored on them: without them, its evaluations are left out of the plan.
        """
        stage = "evaluate" if scored else planned.stage
        try:
            found = self.assumptions.images.find(config, stage, self.chain)
        except (ShardError, StorageError) as error:
            if scored and self.is_ahead:
                note = f"{config.path}, on which it is scored, is not there: give --samples evaluate:N to count that"
                self.findings.note(planned.path, note)
            else:
                self.findings.refuse(planned.path, error if _must_be_mended(config) else _or_give_samples(error, stage))
            return None
        except TinyVitKdError as error:
            self.findings.refuse(planned.path, error)
            return None
        if found.note:
            self.findings.note(planned.path, found.note)
        if not scored:
            self.found_images[planned] = found
        return found

    @property
    def is_ahead(self) -> bool:
        """Whether what recipes take need not be there: samples were given as a number, or another machine is meant."""
        given = self.assumptions.images.samples
        return self.assumptions.elsewhere or given.everywhere is not None or bool(given.by_stage)

    def made_student(self, path: str | Path | None) -> PlannedStudent | None:
        """The student that a recipe of the plan makes at a path; None if none does."""
        maker = None if path is None else self.chain.maker(path)
        return self.students.get(maker) if maker is not None else None

    def is_to_come(self, planned: Planned, field_name: str, path: str | Path | None) -> bool:
        """Whether a file that a recipe takes need not be there: it is noted, and nothing more is known of it."""
        if path is None or not self.is_ahead or self.chain.maker(path) is not None or is_there(str(path)):
            return False
        self.findings.note(planned.path, f"{field_name}: {path} is not there yet")
        return True


def _must_be_mended(config: ShardsConfig) -> bool:
    """Whether shards are there that are wrong, in place of which no number can be given."""
    return are_there(config.path) and not is_url(config.path)


def _or_give_samples(error: TinyVitKdError, stage: str) -> TinyVitKdError:
    error.fix = "; or ".join(part for part in (error.fix, f"to plan without them, give --samples {stage}:N") if part)
    return error


def require_policy(spec: ViewSpec) -> None:
    """Check that a policy can be parsed; a transform of the user's own is not imported.

    Raises:
        ConfigError: it cannot.
    """
    if spec.transform is None and spec.auto_augment is not None:
        parse_auto_augment(spec.auto_augment)
