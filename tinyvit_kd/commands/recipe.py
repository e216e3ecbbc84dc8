"""``recipe``: prints the recipe of a stage."""

from __future__ import annotations

import click

STAGES = ("dump-logits", "contract", "pretrain", "finetune", "evaluate")


@click.command("recipe", short_help="Print a stage's recipe with every field explained, or its JSON schema.")
@click.argument("stage", type=click.Choice(STAGES), metavar="STAGE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of this stage's recipes, for editors.")
def recipe_command(stage: str, schema: bool) -> None:
    """Print a recipe for STAGE with all its fields explained.

    STAGE is dump-logits, contract, pretrain, finetune or evaluate. Every field comes with its default, type, unit and
    meaning. Fill in the placeholders and delete what you do not change. docs/RECIPES.md has the same as tables.

    \b
        tinyvit-kd recipe pretrain > my.yaml

    Editors such as VS Code (YAML extension) complete and check recipes by their JSON schema:

    \b
        tinyvit-kd recipe pretrain --schema > pretrain.schema.json

    Then begin the recipe with the line:

    \b
        # yaml-language-server: $schema=pretrain.schema.json
    """
    from tinyvit_kd.stages.recipe import recipe

    click.echo(recipe(stage, schema))
