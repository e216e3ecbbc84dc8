"""Printed recipes load and equal the defaults, schemas accept every recipe that loads, and the command prints both."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.config.test_described import all_entries
from tests.conftest import REPOSITORY
from tinyvit_kd.cli import cli
from tinyvit_kd.commands.recipe import STAGES
from tinyvit_kd.config.describe import describe
from tinyvit_kd.config.load import load_recipe, read_yaml, validate
from tinyvit_kd.config.printed_recipe import recipe_schema, recipe_text
from tinyvit_kd.config.recipes import STAGE_CONFIGS, PretrainConfig
from tinyvit_kd.config.yaml_text import parse_yaml
from tinyvit_kd.errors import ConfigError

RECIPES = sorted((REPOSITORY / "configs").rglob("*.yaml"))
FILLED = {"<PATH>": "somewhere", "<TEXT>": "something", "<INTEGER>": "3", "<NUMBER>": "0.5"}
STUDENT = {
    "output": "somewhere",
    "student": {"name": "something"},
    "optim": {"base_lr": 0.5},
    "schedule": {"epochs": 3, "global_batch_size": 3},
    "shards": {"path": "something"},
}
REQUIRED: dict[str, dict[str, Any]] = {
    "dump-logits": {
        "shards": {"path": "something"},
        "teacher": {"checkpoint": "somewhere"},
        "store": {"path": "somewhere", "views": 3},
    },
    "pretrain": STUDENT | {"store": {"path": "somewhere"}},
    "contract": STUDENT | {"store": {"path": "somewhere"}, "limits": {"parameters": 0.5}},
    "finetune": STUDENT,
    "evaluate": {"shards": {"path": "something"}, "model": "somewhere"},
}


def filled_in(text: str) -> str:
    return re.sub("|".join(FILLED), lambda match: FILLED[match[0]], text)


def switched_on(text: str) -> dict[str, Any]:
    """The printed recipe with all settings that are switched off filled in."""
    while (fewer := re.sub(r"^( *)# ", r"\1", text, flags=re.MULTILINE)) != text:
        text = fewer
    tree = parse_yaml(filled_in(text))
    assert isinstance(tree, dict)
    return tree


def names(tree: dict[str, Any], parent: str = "") -> Iterator[str]:
    """Dotted names of all keys of a recipe, those in lists of mappings included."""
    for key, value in tree.items():
        yield f"{parent}{key}"
        if isinstance(value, dict):
            yield from names(value, f"{parent}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from names(value[0], f"{parent}{key}[].")


@pytest.mark.parametrize("stage", STAGES)
def test_a_printed_recipe_loads_and_equals_the_defaults(tmp_path: Path, stage: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(filled_in(recipe_text(stage)))
    recipe = load_recipe(STAGE_CONFIGS[stage], path)
    shortest = validate(STAGE_CONFIGS[stage], {"stage": stage} | REQUIRED[stage], "here")
    assert recipe == shortest
    assert recipe.model_dump_json() == shortest.model_dump_json()


@pytest.mark.parametrize("stage", STAGES)
def test_a_printed_recipe_has_every_field(stage: str) -> None:
    expected = [entry.dotted for entry in all_entries(describe(STAGE_CONFIGS[stage]))]
    assert sorted(names(switched_on(recipe_text(stage)))) == sorted(expected)


@pytest.mark.parametrize("stage", STAGES)
def test_a_line_of_a_printed_recipe_is_short_and_a_setting_stands_below_its_meaning(stage: str) -> None:
    lines = recipe_text(stage).splitlines()
    assert max(map(len, lines)) <= 120
    for above, line in pairwise(lines):
        if re.match(r"[ #]*\w+:( |$)", line) and "##" not in line:
            assert "## " in above, line


def test_what_a_printed_recipe_switches_off_works_when_it_is_switched_on() -> None:
    student = switched_on(recipe_text("pretrain"))
    del student["student"]["name"], student["student"]["call"]
    student["store"]["path"] = "elsewhere"
    recipe: Any = validate(STAGE_CONFIGS["pretrain"], student, "here")
    assert recipe.student.tiny_vit.embed_dims == (3, 3, 3, 3)
    assert (recipe.eval.batch_size, recipe.store.others[0].weight) == (128, 1)

    dump = switched_on(recipe_text("dump-logits"))
    del dump["teacher"]["checkpoint"], dump["teacher"]["transformers"], dump["views"]["transform"]["name"]
    dump["teacher"]["name"] = "something"
    dump["views"] = {"size": 32, "transform": dump["views"]["transform"]}
    recipe = validate(STAGE_CONFIGS["dump-logits"], dump, "here")
    assert recipe.teacher.pretrained
    assert str(recipe.views.transform) == "something"
    assert str(recipe.views_from) == "somewhere"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(REPOSITORY / "configs")))
def test_the_schema_accepts_a_shipped_recipe(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = read_yaml(path)
    jsonschema.Draft202012Validator(recipe_schema(tree["stage"])).validate(tree)


@pytest.mark.parametrize("stage", STAGES)
def test_the_schema_is_one_and_accepts_the_printed_recipe(stage: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = recipe_schema(stage)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(parse_yaml(filled_in(recipe_text(stage))))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        pytest.param({"surprise": 1}, [], id="unknown key"),
        pytest.param({"runtime": {"wrkers": 1}}, ["runtime"], id="unknown key in a section"),
        pytest.param({"runtime": {"device": "tpu"}}, ["runtime", "device"], id="a value that is not in the list"),
        pytest.param({"runtime": {"workers": -1}}, ["runtime", "workers"], id="a number that is out of bounds"),
        pytest.param({"stage": "finetune"}, ["stage"], id="recipe of another stage"),
        pytest.param({"optim": {}}, ["optim"], id="missing field"),
    ],
)
def test_the_schema_refuses_a_mistake(change: dict[str, Any], where: list[str]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    tree = {"stage": "pretrain"} | REQUIRED["pretrain"] | change
    # Some versions of pydantic write a constant in two ways, so that one mistake is two errors.
    errors = list(jsonschema.Draft202012Validator(recipe_schema("pretrain")).iter_errors(tree))
    assert errors
    assert all(list(error.absolute_path) == where for error in errors)


@pytest.mark.parametrize("stage", STAGES)
def test_the_schema_explains_every_field_with_its_unit(stage: str) -> None:
    schema = recipe_schema(stage)
    assert stage in schema["title"]
    for section in (schema, *schema["$defs"].values()):
        for name, node in section.get("properties", {}).items():
            assert node["description"], name
            assert "unit" not in node or f"Unit: {node['unit']}." in node["description"]


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_prints_a_recipe_and_its_schema(stage: str) -> None:
    printed = CliRunner().invoke(cli, ["recipe", stage])
    assert (printed.exit_code, printed.output) == (0, recipe_text(stage))
    schema = CliRunner().invoke(cli, ["recipe", stage, "--schema"])
    assert (schema.exit_code, json.loads(schema.output)) == (0, recipe_schema(stage))


def test_the_command_knows_all_stages_and_says_how_an_editor_finds_the_schema() -> None:
    assert set(STAGES) == set(STAGE_CONFIGS)
    assert CliRunner().invoke(cli, ["recipe", "demo"]).exit_code == 2
    shown = CliRunner().invoke(cli, ["recipe", "--help"]).output
    assert all(text in shown for text in (*STAGES, "# yaml-language-server: $schema="))
    assert re.search(r"^\s+recipe\s+Print", CliRunner().invoke(cli, ["--help"]).output, re.MULTILINE)


def test_the_command_does_not_wait_for_torch() -> None:
    code = "import sys; from click.testing import CliRunner; from tinyvit_kd.cli import cli\n"
    code += "assert CliRunner().invoke(cli, ['recipe', 'pretrain']).exit_code == 0\n"
    code += (
        "assert 'tinyvit_kd.config.printed_recipe' in sys.modules and not {'torch', 'timm', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_placeholder_that_nobody_replaced_is_a_mistake_beside_the_others(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.yaml"
    path.write_text(recipe_text("pretrain"))
    with pytest.raises(ConfigError) as caught:
        load_recipe(PretrainConfig, path, ["optim.base_lr=1e-3", "schedule.epochs=0"])
    for line in (
        "output: still the placeholder <PATH>",
        "store.path: still the placeholder <PATH>",
        "schedule.global_batch_size: still the placeholder <INTEGER>",
        "schedule.epochs: found 0",
    ):
        assert line in caught.value.found
    assert "optim.base_lr" not in caught.value.found
