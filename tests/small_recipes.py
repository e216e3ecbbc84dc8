"""Recipes of the pages in small: the same stage, files and choices, but few pixels, small networks and two epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.tiny_world import NETWORK, SIZE
from tests.conftest import REPOSITORY
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import read_yaml, validate
from tinyvit_kd.config.recipes import STAGE_CONFIGS
from tinyvit_kd.errors import ConfigError

LAPTOP = REPOSITORY / "configs" / "laptop"
LANES, TOPK = 4, 5
DISTILLED: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
Tree = dict[str, Any]
BRIEF_SEARCH: Tree = {
    "space": {"tiny_vit": {"factors": ["mlp_ratio"], "mlp_step": 2.0}},
    "limits": {"multiply_adds": 1e12},
    "search": {"rounds": 1, "bases": 1},
    "throughput": {"batch_size": 2, "turns": 3},
    "proxy": {"steps": 2, "rungs": 1, "finalists": 1, "seeds": 1},
}


def laptop_recipe(stage: str) -> Path:
    """The recipe for one machine that is shipped for a stage."""
    return LAPTOP / f"{stage.removesuffix('-logits')}.yaml"


def in_small(recipe: Section, folder: Path) -> Tree:
    """A recipe as plain values that takes a second, and whose teacher and images are in a folder."""
    tree: Tree = recipe.model_dump(mode="json", exclude_unset=True)
    tree["runtime"] = tree.get("runtime", {}) | {"workers": 0}
    tree["shards"] = _labelled_beside(tree["shards"])
    if "eval" in tree:
        tree["eval"] |= {"shards": _labelled_beside(tree["eval"]["shards"]), "views": {"size": SIZE}}
    if tree["stage"] == "contract":
        tree |= BRIEF_SEARCH
    elif tree["stage"] != "pretrain":  # whose views, as those of a search, are the store's
        views = tree.get("views", {})
        tree["views"] = _resized(views, views.get("size", 224)) | {"size": SIZE}
    if tree["stage"] == "dump-logits":
        if not _is_there(tree["teacher"], folder):
            tree["teacher"] = {"checkpoint": "teacher"}
        tree["store"]["topk"], tree["batch_size"] = TOPK, 20
    if "student" in tree:
        _train_briefly(tree)
    return tree


def _is_there(teacher: Tree, folder: Path) -> bool:
    """Whether a folder has a teacher's weights, or the module with the function that makes it."""
    module = str(teacher.get("call", "no module")).partition(".")[0]
    return (folder / str(teacher.get("checkpoint", f"{module}.py"))).exists()


def _labelled_beside(shards: Tree) -> Tree:
    """The class list is the one beside the shards."""
    return {name: value for name, value in shards.items() if name != "class_list"}


def _resized(value: Any, size: int) -> Any:
    """Views of another size, and what a transform is told of it."""
    if isinstance(value, dict):
        return {name: _resized(each, size) for name, each in value.items()}
    return SIZE if type(value) is int and value == size else value


def _train_briefly(tree: Tree) -> None:
    student, schedule = tree["student"], tree["schedule"]
    if "distilled" in student.get("name", ""):
        student["kwargs"] = DISTILLED
    elif "name" in student:
        del student["name"]
        student["tiny_vit"] = NETWORK
    batch = 2 * LANES * schedule.get("views_per_sample", 1)
    schedule |= {"epochs": 2, "warmup_epochs": 0, "lanes": LANES, "window": 8, "global_batch_size": batch}


def require_recipe(tree: Tree) -> None:
    """Refuse a block of YAML that is no recipe, nor has sections that a shipped one could have in place of its own.

    Raises:
        AssertionError: with the mistakes that every stage finds in it.
    """
    refusals = []
    stages = [tree["stage"]] if "stage" in tree else list(STAGE_CONFIGS)
    assert set(stages) <= STAGE_CONFIGS.keys(), stages
    for stage in stages:
        shipped = read_yaml(laptop_recipe(stage))
        for whole in [tree] if "stage" in tree else [shipped | tree, _merged(shipped, tree)]:
            try:
                validate(STAGE_CONFIGS[stage], whole, stage)
            except ConfigError as error:
                refusals.append(str(error))
            else:
                return
    raise AssertionError("\n".join(refusals))


def _merged(base: Any, tree: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(tree, dict)):
        return tree
    return base | {name: _merged(base.get(name), each) for name, each in tree.items()}
