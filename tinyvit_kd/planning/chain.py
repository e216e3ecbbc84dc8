"""Recipes that are planned together: which of them makes what another one takes, and so in which order they run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import load_recipe, read_yaml
from tinyvit_kd.config.recipes import (
    STAGE_CONFIGS,
    DumpConfig,
    EvaluateConfig,
    FinetuneConfig,
    PretrainConfig,
    TrainingConfig,
)
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.planning.findings import Findings

Config = DumpConfig | PretrainConfig | FinetuneConfig | EvaluateConfig
_SEARCH = "contract"
PLANNED = {stage: kind for stage, kind in STAGE_CONFIGS.items() if stage != _SEARCH}
"""The stages that can be planned."""
_RANK = {stage: rank for rank, stage in enumerate(PLANNED)}


@dataclass(frozen=True, eq=False)
class Planned:
    """One recipe of a plan.

    Attributes:
        path: of the recipe, as it was given.
    """

    path: str
    config: Config

    @property
    def stage(self) -> str:
        """The stage that it is a recipe of."""
        return self.config.stage

    @property
    def makes(self) -> str | None:
        """The store or the run folder that it makes; None for an evaluation."""
        if isinstance(self.config, DumpConfig):
            return _whole(self.config.store.path)
        return _whole(self.config.output) if isinstance(self.config, TrainingConfig) else None

    @property
    def takes(self) -> dict[str, str]:
        """The stores and models that it takes, by the field that names them."""
        return {field: _whole(path) for field, path in _taken(self.config)}


def _taken(config: Config) -> Iterator[tuple[str, str | Path]]:
    if isinstance(config, DumpConfig):
        if config.teacher.checkpoint is not None:
            yield "teacher.checkpoint", config.teacher.checkpoint
        if config.views_from is not None:
            yield "views_from", config.views_from
    elif isinstance(config, EvaluateConfig):
        if config.model is not None:
            yield "model", config.model
    else:
        if isinstance(config, PretrainConfig):
            yield "store.path", config.store.path
            for number, other in enumerate(config.store.others):
                yield f"store.others.{number}.path", other.path
        if config.student.init_from is not None:
            yield "student.init_from", config.student.init_from


def _whole(path: str | Path) -> str:
    """A path by which what is made is found again; a URL as it is."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


@dataclass(frozen=True)
class Chain:
    """Recipes in the order in which they run."""

    ordered: tuple[Planned, ...]

    @classmethod
    def of(cls, recipes: Iterable[Planned]) -> Chain:
        """Order recipes so that each comes after those that make what it takes; otherwise by stage."""
        left = sorted(recipes, key=lambda planned: _RANK[planned.stage])
        ordered: list[Planned] = []
        while left:
            ready = [each for each in left if not any(_feeds(other, each) for other in left if other is not each)]
            ordered.append((ready or left)[0])
            left.remove(ordered[-1])
        return cls(tuple(ordered))

    def maker(self, path: str | Path) -> Planned | None:
        """The recipe that makes a store, a run folder or a file in one; None if it is not among these."""
        return next((each for each in self.ordered if _is_made_by(each, _whole(path))), None)

    def of_stage(self, stage: str) -> list[Planned]:
        """The recipes of one stage."""
        return [each for each in self.ordered if each.stage == stage]


def _feeds(maker: Planned, taker: Planned) -> bool:
    return any(_is_made_by(maker, path) for path in taker.takes.values())


def _is_made_by(planned: Planned, path: str) -> bool:
    return planned.makes is not None and planned.makes in (path, os.path.dirname(path))


def load_recipes(paths: Iterable[Path], overrides: Iterable[str], findings: Findings) -> list[Planned]:
    """Read recipes of any stages; mistakes become findings.

    Args:
        overrides: ``KEY=VALUE`` for each recipe that has the section, or ``STAGE:KEY=VALUE``, ``RECIPE:KEY=VALUE``.

    Raises:
        ConfigError: an override is for none of the recipes.
    """
    kinds: dict[Path, type[Section]] = {}
    for path in dict.fromkeys(paths):
        with findings.checking(str(path)):
            kinds[path] = _kind(path)
    for_each = _distribute(list(overrides), kinds)
    planned = []
    for path, kind in kinds.items():
        with findings.checking(str(path)):
            planned.append(Planned(str(path), load_recipe(kind, path, for_each[path])))  # type: ignore[arg-type]
    return planned


def _kind(path: Path) -> type[Section]:
    stage = read_yaml(path).get("stage")
    if stage == _SEARCH:
        raise ConfigError(
            "a search is not planned: how many candidates a round has follows from the scores of the one before",
            where=str(path),
            found=f"stage: {stage}",
            expected=f"recipes of {', '.join(PLANNED)}",
            fix="plan the others without it. docs/CONTRACTION.md (What it takes) reckons steps and hours of a round "
            "from proxy.steps, rungs and reduction, and the search says how many before each. For the training of a "
            "winner: tinyvit-kd plan FOLDER/winner.yaml",
        )
    if isinstance(stage, str) and stage in PLANNED:
        return PLANNED[stage]
    raise ConfigError(
        "a recipe does not say which stage it is for",
        where=str(path),
        found="no stage" if stage is None else f"stage: {stage}",
        expected=f"stage: and one of {', '.join(PLANNED)}",
    )


def _distribute(overrides: list[str], kinds: dict[Path, type[Section]]) -> dict[Path, list[str]]:
    """The overrides of each recipe."""
    for_each: dict[Path, list[str]] = {path: [] for path in kinds}
    for text in overrides:
        scope, separator, rest = text.partition("=")[0].rpartition(":")
        setting = text[len(scope) + 1 :] if separator else text
        chosen = [path for path, kind in kinds.items() if _is_meant(scope, rest, path, kind)]
        if not chosen and kinds:
            raise ConfigError(
                "--set is for none of these recipes",
                found=text,
                expected="a field of one of them; STAGE: or the path of a RECIPE: before it says which",
            )
        for path in chosen:
            for_each[path].append(setting)
    return for_each


def _is_meant(scope: str, key: str, path: Path, kind: type[Section]) -> bool:
    if scope:
        return scope == str(path) or PLANNED.get(scope) is kind
    return key.strip().partition(".")[0] in kind.model_fields
