"""Recipes as data: one file per topic, one pydantic section per part of a recipe, one class per stage.

Here also: reading YAML and ``--set`` with all mistakes reported together (``load``), and what every field says about
itself (``describe``), from which come commented recipes and JSON schemas (``printed``) and docs/RECIPES.md (``page``).
Not here: checks that need data, a network or a device. ``runs`` makes these before anything starts.
"""
