"""Plans of recipes, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import REPOSITORY
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.planning.chain import Config, Planned
from tinyvit_kd.planning.context import Assumptions
from tinyvit_kd.planning.findings import Findings
from tinyvit_kd.planning.given import per_stage
from tinyvit_kd.planning.images import GivenImages
from tinyvit_kd.planning.plan import Plan, make_plan

CONFIGS = REPOSITORY / "configs"


def assumptions(samples: tuple[str, ...] = (), sizes: tuple[str, ...] = (), **others: Any) -> Assumptions:
    """What a plan is given beside recipes."""
    images = GivenImages(per_stage("--samples", samples), per_stage("--bytes-per-image", sizes), 5000)
    return Assumptions(images, **others)


def plan_of(*configs: Config, **given: Any) -> Plan:
    """A plan of recipes that are named by their stage and number."""
    recipes = [Planned(f"{number}-{config.stage}.yaml", config) for number, config in enumerate(configs)]
    return make_plan(recipes, assumptions(**given), Findings())


def wrong(plan: Plan) -> list[str]:
    """What is wrong: recipe and first sentence."""
    return [f"{each.recipe}: {each.parts['what']}" for each in plan.findings.wrong]


def notes(plan: Plan) -> str:
    """What is worth knowing."""
    return "\n".join(each.text for each in plan.findings.found if not each.wrong)


def written(folder: Path, *configs: Config) -> list[Path]:
    """Recipes as files."""
    paths = [folder / f"{number}-{config.stage}.yaml" for number, config in enumerate(configs)]
    for path, config in zip(paths, configs, strict=True):
        path.write_text(dump_yaml(config))
    return paths
