"""``recipe``: prints a stage's recipe with every field explained, or the JSON schema that editors check it with."""

from __future__ import annotations

import json

from tinyvit_kd.config.printed_recipe import recipe_schema, recipe_text


def recipe(stage: str, schema: bool) -> str:
    """The text that the command prints, without the last line break.

    Args:
        stage: a name in ``STAGE_CONFIGS``.
        schema: print the JSON schema instead of the recipe.
    """
    return json.dumps(recipe_schema(stage), indent=2) if schema else recipe_text(stage).removesuffix("\n")
