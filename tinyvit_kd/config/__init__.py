"""Recipes as data: one file a topic, one pydantic section a part of a recipe, one class a stage.

Here also: reading YAML and ``--set``, with all mistakes reported together.
Not here: checks that need data, a network or a device; these are made by ``runs`` before anything starts.
"""
